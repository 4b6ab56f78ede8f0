SELECT ELT(1,'a','b'), ELT(3,'a','b'), ELT(CAST(NULL AS INT),'a'), URL_ENCODE('a b&c=ä'), URL_DECODE('%zz');
