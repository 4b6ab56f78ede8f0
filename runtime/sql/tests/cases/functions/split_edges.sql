SELECT SPLIT('a,b,,c', ','), SPLIT('abc', ''), SPLIT(CAST(NULL AS STRING), ','), SPLIT_INDEX('a,b',',',5), SPLIT_INDEX('a,b',44,1);
