import java.io.IOException;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import java.util.stream.StreamSupport;
import org.apache.flink.configuration.ConfigOption;

/**
 * Prints each configuration option in the given jars of Flink's, sorted: key, type, older keys (comma between), class.
 *
 * <pre>
 *   jar --(class files that name ConfigOption)--> class --(static fields, Scala objects' fields)--> option --> line
 * </pre>
 *
 * Connectors', formats', catalogs' and modules' options are left out: they belong into a table's WITH clause, not into the
 * configuration. Options of reporters, token providers, the GPU driver and the file catalog store get the prefix under which the configuration has them.
 * The jars must be on the class path as well. A class that can't be loaded is named on the standard error.
 */
public final class ListOptions {
    private static final byte[] DESCRIPTOR = "Lorg/apache/flink/configuration/ConfigOption;".getBytes(StandardCharsets.UTF_8);

    /** Parts of class names; tables, not the configuration, have such options. */
    private static final List<String> OF_TABLES = List.of(
            "org.apache.flink.connector.",
            "org.apache.flink.streaming.connectors.",
            "org.apache.flink.formats.",
            "org.apache.flink.table.factories.",
            "org.apache.flink.table.module.",
            "ConnectorOptions",
            "CatalogFactoryOptions",
            "LookupOptions",
            "FormatOptions",
            "DynamicTable");

    /** How tasks are handed over inside Flink, in a configuration of its own. */
    private static final String BETWEEN_PROCESSES = "org.apache.flink.streaming.api.graph.StreamConfig";

    /** Classes with a reporter's options by the start of their names, and where the configuration has these. */
    private static final Map<String, String> REPORTERS = Map.of(
            "org.apache.flink.metrics.", "metrics.reporter.<name>.",
            "org.apache.flink.configuration.MetricOptions", "metrics.reporter.<name>.",
            "org.apache.flink.configuration.TraceOptions", "traces.reporter.<name>.",
            "org.apache.flink.configuration.EventOptions", "events.reporter.<name>.");

    private record Option(String key, String type, TreeSet<String> olderKeys, TreeSet<String> classes) {}

    private final Map<String, Option> options = new TreeMap<>();

    public static void main(String[] jars) throws Exception {
        ListOptions list = new ListOptions();
        for (String jar : jars) {
            list.readJar(jar);
        }
        for (Option option : list.options.values()) {
            System.out.println(String.join(
                    "\t", option.key, option.type, String.join(",", option.olderKeys), String.join(",", option.classes)));
        }
    }

    private void readJar(String path) throws IOException, ReflectiveOperationException {
        try (JarFile jar = new JarFile(path)) {
            for (JarEntry entry : Collections.list(jar.entries())) {
                String name = entry.getName();
                if (!name.startsWith("org/apache/flink/") || !name.endsWith(".class")) {
                    continue;
                }
                String type = name.substring(0, name.length() - ".class".length()).replace('/', '.');
                if (!type.equals(BETWEEN_PROCESSES)
                        && OF_TABLES.stream().noneMatch(type::contains)
                        && contains(jar.getInputStream(entry).readAllBytes(), DESCRIPTOR)) {
                    readClass(type);
                }
            }
        }
    }

    private void readClass(String name) throws ReflectiveOperationException {
        try {
            Class<?> type = Class.forName(name);
            for (Field field : type.getDeclaredFields()) {
                if (ConfigOption.class.isAssignableFrom(field.getType())) {
                    field.setAccessible(true);
                    Object owner = null;
                    if (!Modifier.isStatic(field.getModifiers())) {
                        if (!name.endsWith("$")) {
                            continue;
                        }
                        owner = type.getField("MODULE$").get(null); // a Scala object
                    }
                    if (field.get(owner) instanceof ConfigOption<?> option) {
                        add(option, name);
                    }
                }
            }
        } catch (LinkageError | ClassNotFoundException e) {
            System.err.println(name + ": " + e);
        }
    }

    private void add(ConfigOption<?> found, String className) throws ReflectiveOperationException {
        // hints and the WITH clauses of the table packages' own small connectors
        if (className.startsWith("org.apache.flink.table.")
                && !className.endsWith(".FileCatalogStoreFactoryOptions")
                && (!found.key().contains(".") || found.key().contains("#"))) {
            return;
        }
        String prefix = prefixOf(className, found.key());
        String type = typeOf(found);
        Option option = options.computeIfAbsent(
                prefix + found.key(), key -> new Option(key, type, new TreeSet<>(), new TreeSet<>()));
        StreamSupport.stream(found.fallbackKeys().spliterator(), false)
                .forEach(older -> option.olderKeys.add(prefix + older.getKey()));
        option.classes.add(className);
    }

    /** What the configuration has before keys that a plugin gets without it. */
    private static String prefixOf(String className, String key) {
        for (Map.Entry<String, String> reporters : REPORTERS.entrySet()) {
            boolean fitsClass = className.startsWith(reporters.getKey());
            if (fitsClass && !key.startsWith("metrics.") && !key.startsWith("traces.") && !key.startsWith("events.")) {
                return reporters.getValue();
            }
        }
        if (className.equals("org.apache.flink.configuration.SecurityOptions") && key.equals("enabled")) {
            return "security.delegation.token.provider.<serviceName>.";
        }
        if (className.startsWith("org.apache.flink.externalresource.")) {
            return "external-resource.<resource_name>.param.";
        }
        if (className.endsWith(".FileCatalogStoreFactoryOptions")) {
            return "table.catalog-store.file.";
        }
        return "";
    }

    private static String typeOf(ConfigOption<?> option) throws ReflectiveOperationException {
        Field type = ConfigOption.class.getDeclaredField("clazz");
        Field list = ConfigOption.class.getDeclaredField("isList");
        type.setAccessible(true);
        list.setAccessible(true);
        String name = ((Class<?>) type.get(option)).getSimpleName();
        return list.getBoolean(option) ? "List<" + name + ">" : name;
    }

    private static boolean contains(byte[] bytes, byte[] part) {
        for (int start = 0; start + part.length <= bytes.length; start++) {
            if (bytes[start] == part[0]
                    && Arrays.equals(bytes, start, start + part.length, part, 0, part.length)) {
                return true;
            }
        }
        return false;
    }
}
