SELECT STARTSWITH('abc','a'), ENDSWITH('abc',''), STARTSWITH(CAST(NULL AS STRING),'a'), BTRIM(' xx '), LTRIM('xxa','x'), RTRIM('axx','x');
