import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Runs SQL scripts on real Flink, one after the other in this JVM, each in an environment of its own, and writes what each printed.
 *
 * <p>Arguments: pairs of a script and a file for its output, then {@code key=value} for variables ({@code ${key}} in scripts).
 * A statement that fails ends its script with a line {@code ERROR: message}, the causes behind one another.
 */
public final class RunScripts {
    private static final Pattern SET = Pattern.compile("(?is)SET\\s+'([^']*)'\\s*=\\s*'([^']*)'");
    private static final Pattern BATCH = Pattern.compile("(?i)SET\\s+'execution\\.runtime-mode'\\s*=\\s*'batch'");
    /** Characters of a message that are kept. */
    private static final int MESSAGE = 200;
    private static final PrintStream TERMINAL = System.out;

    public static void main(String[] args) throws Exception {
        Map<String, String> variables = new TreeMap<>();
        List<String> files = new ArrayList<>();
        for (String arg : args) {
            int equals = arg.indexOf('=');
            if (equals > 0) {
                variables.put(arg.substring(0, equals), arg.substring(equals + 1));
            } else {
                files.add(arg);
            }
        }
        for (int i = 0; i < files.size(); i += 2) {
            String script = Files.readString(Path.of(files.get(i)));
            for (Map.Entry<String, String> variable : variables.entrySet()) {
                script = script.replace("${" + variable.getKey() + "}", variable.getValue());
            }
            Files.writeString(Path.of(files.get(i + 1)), run(script));
            TERMINAL.println(files.get(i));
        }
        System.exit(0);
    }

    private static String run(String script) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        PrintStream out = new PrintStream(bytes, true, StandardCharsets.UTF_8);
        System.setOut(out);
        try {
            execute(script);
        } catch (Throwable failure) {
            out.println("ERROR: " + messages(failure));
        } finally {
            System.setOut(TERMINAL);
        }
        return bytes.toString(StandardCharsets.UTF_8);
    }

    private static void execute(String script) throws InterruptedException, ExecutionException {
        Configuration configuration = new Configuration();
        configuration.setString("parallelism.default", "1");
        configuration.setString("table.local-time-zone", "UTC");
        configuration.setString("restart-strategy.type", "none");
        EnvironmentSettings.Builder settings = EnvironmentSettings.newInstance();
        // An environment's mode is known when it is made; later SET is refused.
        settings = BATCH.matcher(script).find() ? settings.inBatchMode() : settings.inStreamingMode();
        TableEnvironment environment = TableEnvironment.create(settings.withConfiguration(configuration).build());
        for (String statement : statements(script)) {
            Matcher set = SET.matcher(statement);
            if (set.matches()) {
                environment.getConfig().set(set.group(1), set.group(2));
                continue;
            }
            TableResult result = environment.executeSql(statement);
            switch (result.getResultKind()) {
                case SUCCESS_WITH_CONTENT -> {
                    if (result.getJobClient().isPresent() && isInsert(statement)) {
                        result.await();
                    } else {
                        result.print();
                    }
                }
                default -> {}
            }
        }
    }

    private static boolean isInsert(String statement) {
        String start = statement.stripLeading().toUpperCase(java.util.Locale.ROOT);
        return start.startsWith("INSERT") || start.startsWith("EXECUTE STATEMENT SET");
    }

    /** A statement ends by ; at the end of a line; within BEGIN .. END by END; only. */
    private static List<String> statements(String script) {
        List<String> statements = new ArrayList<>();
        StringBuilder statement = new StringBuilder();
        boolean inSet = false;
        for (String line : script.split("\n")) {
            String code = line.strip();
            if (code.startsWith("--")) {
                continue;
            }
            statement.append(line).append('\n');
            inSet |= code.toUpperCase(java.util.Locale.ROOT).startsWith("EXECUTE STATEMENT SET");
            if (code.endsWith(";") && (!inSet || code.equalsIgnoreCase("END;"))) {
                String text = statement.toString().strip();
                statements.add(text.substring(0, text.length() - 1));
                statement.setLength(0);
                inSet = false;
            }
        }
        if (!statement.toString().isBlank()) {
            statements.add(statement.toString().strip());
        }
        return statements;
    }

    private static String messages(Throwable failure) {
        List<String> messages = new ArrayList<>();
        for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
            if (cause.getMessage() != null && !cause.getMessage().isBlank()) {
                String message = cause.getMessage().strip().replace("\n", " | ");
                messages.add(message.substring(0, Math.min(message.length(), MESSAGE)));
            }
        }
        return String.join(" <- ", messages);
    }

    private RunScripts() {}
}
