package com.github.nexmark.flink.udf;

import org.apache.flink.table.functions.ScalarFunction;

/** How often a letter is in a text: the one user function of Nexmark (q14). */
public final class CountChar extends ScalarFunction {
    private static final long serialVersionUID = 1L;

    public long eval(String text, String character) {
        char wanted = character.charAt(0);
        long count = 0;
        for (int i = 0; i < text.length(); i++) {
            if (text.charAt(i) == wanted) {
                count++;
            }
        }
        return count;
    }
}
