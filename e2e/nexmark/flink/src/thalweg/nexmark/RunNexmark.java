package thalweg.nexmark;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Runs scripts on real Flink, one after the other in this process, and prints for each how long its INSERTs took, in seconds of the
 * clock and of all cores: {@code script seconds core-seconds}.
 *
 * <p>Arguments: scripts, {@code key=value} for variables of scripts, {@code --key=value} for Flink's configuration.
 */
public final class RunNexmark {
    public static void main(String[] args) throws Exception {
        Map<String, String> variables = new TreeMap<>();
        Configuration configuration = new Configuration();
        for (String arg : args) {
            int equals = arg.indexOf('=');
            if (arg.startsWith("--")) {
                configuration.setString(arg.substring(2, equals), arg.substring(equals + 1));
            } else if (equals > 0) {
                variables.put(arg.substring(0, equals), arg.substring(equals + 1));
            }
        }
        for (String arg : args) {
            if (arg.indexOf('=') < 0) {
                run(Path.of(arg), variables, configuration);
            }
        }
        System.exit(0);
    }

    private static void run(Path script, Map<String, String> variables, Configuration configuration) throws Exception {
        String text = Files.readString(script).replaceAll("(?m)^--.*$", "");
        for (Map.Entry<String, String> variable : variables.entrySet()) {
            text = text.replace("${" + variable.getKey() + "}", variable.getValue());
        }
        EnvironmentSettings settings =
                EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(configuration).build();
        TableEnvironment environment = TableEnvironment.create(settings);
        OperatingSystemMXBean system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        for (String statement : text.split(";\\s*(\n|$)")) {
            if (statement.isBlank()) {
                continue;
            }
            long begin = System.nanoTime();
            long cpu = system.getProcessCpuTime();
            TableResult result = environment.executeSql(statement);
            if (statement.strip().toUpperCase(java.util.Locale.ROOT).startsWith("INSERT")) {
                result.await();
                double seconds = (System.nanoTime() - begin) / 1e9;
                double cores = (system.getProcessCpuTime() - cpu) / 1e9;
                System.out.printf("%s %.3f %.3f%n", script.getFileName(), seconds, cores);
            }
        }
    }

    private RunNexmark() {}
}
