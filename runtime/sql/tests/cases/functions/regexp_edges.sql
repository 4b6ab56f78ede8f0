SELECT REGEXP_COUNT('aaa','a'), REGEXP_INSTR('abc','c'), REGEXP_SUBSTR('ab12','[0-9]+'), REGEXP_EXTRACT_ALL('a1b2','([a-z])([0-9])',2), REGEXP_EXTRACT('abc','(');
