import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.ExplainDetail;
import org.apache.flink.table.api.TableEnvironment;

/** Writes the physical plan that Flink makes of each script beside it: `java -cp "$FLINK_HOME/lib/*" Explain.java *.sql`. */
public class Explain {
    private static final Pattern PHYSICAL = Pattern.compile(
            "== Optimized Physical Plan ==\n(.*?)\n+== Optimized Execution Plan ==", Pattern.DOTALL);

    public static void main(String[] scripts) throws Exception {
        for (String script : scripts) {
            Path path = Path.of(script);
            String plan;
            try {
                plan = plan(path);
            } catch (Exception error) {
                plan = "ERROR: " + error.getMessage().lines().findFirst().orElse("");
            }
            Files.writeString(path.resolveSibling(path.getFileName().toString().replace(".sql", ".plan")), plan + "\n");
        }
    }

    private static String plan(Path path) throws Exception {
        String text = Files.readString(path);
        String tables = text.lines().findFirst().orElseThrow().replace("-- tables: ", "");
        text = Files.readString(path.resolveSibling("tables").resolve(tables + ".sql")) + text;
        text = text.lines().filter(line -> !line.startsWith("--")).collect(Collectors.joining("\n"));
        TableEnvironment environment = TableEnvironment.create(EnvironmentSettings.inStreamingMode());
        String explained = "";
        for (String statement : text.split(";\\s*(\\n|$)")) {
            if (statement.strip().startsWith("INSERT")) {
                explained = environment.explainSql(statement.strip(), ExplainDetail.CHANGELOG_MODE);
            } else if (!statement.isBlank()) {
                environment.executeSql(statement.strip());
            }
        }
        Matcher physical = PHYSICAL.matcher(explained);
        return physical.find() ? physical.group(1).strip() : "";
    }
}
