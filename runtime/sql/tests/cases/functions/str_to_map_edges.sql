SELECT STR_TO_MAP('a=1,b'), STR_TO_MAP(''), STR_TO_MAP('a:1;b:2', ';', ':');
