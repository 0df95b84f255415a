import java.lang.management.ManagementFactory;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.flink.api.common.JobExecutionResult;
import org.apache.flink.api.common.accumulators.LongCounter;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.legacy.RichSinkFunction;
import org.apache.flink.streaming.api.functions.source.legacy.RichParallelSourceFunction;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.Table;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.RowType;

/**
 * Flink SQL on the rows of benches/patterns.rs and benches/windows.rs, in one process: CASE PATTERNS ROWS WARM PARALLELISM. The first WARM rows are not timed. Answers are compared
 * with those of a loop written for the case.
 */
public final class Peer {
    private static final long KEYS = 1_000_000;
    private static final int TENANTS = 10_000;
    private static final long MERCHANTS = 1000;
    private static final long HOUR = 3_600_000;
    private static final long WEEK = 7 * 24 * HOUR;

    /** Rows from one watermark to the next: of 100, 1000, 10,000 and 100,000 the first was best, by a tenth of processor time. */
    private static final long WATERMARK = 100;

    /** When the first timed row was made, and the processor time of the process until then; nanoseconds. */
    private static volatile long started;
    private static volatile long used;

    /** A row by its number, without its time. */
    private static long random(long number) {
        long z = (number + 1) * 0x9e3779b97f4a7c15L;
        z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
        return z ^ (z >>> 31);
    }

    private static long card(long z) {
        return Long.remainderUnsigned(z, KEYS);
    }

    private static long merchant(long z) {
        return (z >>> 24 & 0xffff) % MERCHANTS;
    }

    private static long cents(long z, boolean windows) {
        return windows ? (z >>> 40) % 100_000 : (z >>> 44) % 100_000;
    }

    /** Milliseconds: one from row to row, or ten rows of each card in thirty days. */
    private static long at(long number, boolean windows) {
        return windows ? number * (30 * 24 * HOUR) / (KEYS * 10) : number;
    }

    /** Makes the rows, each instance those of its remainder. */
    private static final class Rows extends RichParallelSourceFunction<RowData> {
        private final long count;
        private final long warm;
        private final boolean windows;
        private volatile boolean running = true;

        Rows(long count, long warm, boolean windows) {
            this.count = count;
            this.warm = warm;
            this.windows = windows;
        }

        @Override
        public void run(SourceContext<RowData> context) {
            int first = getRuntimeContext().getTaskInfo().getIndexOfThisSubtask();
            int step = getRuntimeContext().getTaskInfo().getNumberOfParallelSubtasks();
            StringData[] tenants = IntStream.range(0, TENANTS).mapToObj(tenant -> StringData.fromString("t" + tenant)).toArray(StringData[]::new);
            GenericRowData row = new GenericRowData(4);
            long next = WATERMARK;
            for (long number = first; number < count && running; number += step) {
                if (number >= warm && number < warm + step && first == 0) {
                    used = processorTime();
                    started = System.nanoTime();
                }
                long z = random(number);
                long card = card(z);
                row.setField(0, tenants[(int) (card % TENANTS)]);
                row.setField(1, card);
                row.setField(2, merchant(z));
                row.setField(3, cents(z, windows));
                // OVER passes over rows at the very beginning of time.
                long at = at(number, windows) + 1;
                context.collectWithTimestamp(row, at);
                if (number >= next) {
                    context.emitWatermark(new Watermark(at));
                    next += WATERMARK;
                }
            }
        }

        @Override
        public void cancel() {
            running = false;
        }
    }

    /** Counts the answers, and adds up the numbers in them. */
    private static final class Count extends RichSinkFunction<RowData> {
        private final int fields;
        private final LongCounter rows = new LongCounter();
        private final LongCounter sum = new LongCounter();

        Count(int fields) {
            this.fields = fields;
        }

        @Override
        public void open(OpenContext context) {
            getRuntimeContext().addAccumulator("rows", rows);
            getRuntimeContext().addAccumulator("sum", sum);
        }

        @Override
        public void invoke(RowData row, Context context) {
            rows.add(1);
            for (int field = 0; field < fields; field++) {
                sum.add(row.getLong(field));
            }
        }
    }

    /** How many answers there are, and the sum of all numbers in them. */
    private record Answers(long rows, long sum) {}

    /** Two adjacent payments of a card within an hour: the second begins no other match of its pattern. */
    private static Answers pairs(long count, int patterns, boolean all) {
        long[] last = new long[(int) KEYS];
        long found = 0;
        long sum = 0;
        for (long number = 0; number < count; number++) {
            long z = random(number);
            int card = (int) card(z);
            long before = last[card] - 1;
            long other = before < 0 ? 0 : random(before);
            boolean isMatch = before >= 0 && (all || cents(other, false) < 5000) && number - before < HOUR && cents(z, false) > 90_000;
            if (isMatch) {
                found++;
                sum += card + cents(z, false);
            }
            boolean taken = isMatch && merchant(other) * patterns / MERCHANTS == merchant(z) * patterns / MERCHANTS;
            last[card] = taken ? 0 : number + 1;
        }
        return new Answers(found, sum);
    }

    /** A payment, and later one that counts, whatever lies between: the first of each pattern waits for it, and others meanwhile do not begin. */
    private static Answers followed(long count, int patterns) {
        Map<Long, Map<Long, List<Long>>> begun = new HashMap<>();
        long found = 0;
        long sum = 0;
        for (long number = 0; number < count; number++) {
            long z = random(number);
            long time = number;
            Map<Long, List<Long>> ofCard = begun.computeIfAbsent(card(z), card -> new HashMap<>());
            ofCard.values().forEach(times -> times.removeIf(other -> time - other >= HOUR));
            ofCard.values().removeIf(List::isEmpty);
            long pattern = merchant(z) * patterns / MERCHANTS;
            boolean ended = false;
            if (cents(z, false) > 90_000) {
                ended = ofCard.containsKey(pattern);
                found += ofCard.size();
                sum += ofCard.size() * (card(z) + cents(z, false));
                ofCard.clear();
            }
            if (cents(z, false) < 5000 && !ended) {
                ofCard.computeIfAbsent(pattern, of -> new ArrayList<>()).add(time);
            }
        }
        return new Answers(found, sum);
    }

    /** The number and the sum of a card's payments of a week, for each. */
    private static Answers counted(long count) {
        List<ArrayDeque<Long>> held = IntStream.range(0, (int) KEYS).mapToObj(card -> new ArrayDeque<Long>(4)).toList();
        long[] sums = new long[(int) KEYS];
        long sum = 0;
        for (long number = 0; number < count; number++) {
            long z = random(number);
            int card = (int) card(z);
            var of = held.get(card);
            of.add(number);
            sums[card] += cents(z, true);
            while (at(of.peek(), true) < at(number, true) - WEEK) {
                sums[card] -= cents(random(of.poll()), true);
            }
            sum += of.size() + sums[card];
        }
        return new Answers(count, sum);
    }

    private static String pattern(int number, int patterns, String name) {
        long first = (number * MERCHANTS + patterns - 1) / patterns;
        long last = ((number + 1) * MERCHANTS + patterns - 1) / patterns - 1;
        String merchant = patterns == 1 ? "" : "a.merchant BETWEEN " + first + " AND " + last;
        String small = name.equals("all") ? "" : "a.cents < 5000";
        String begins = merchant.isEmpty() && small.isEmpty() ? "TRUE" : merchant + (merchant.isEmpty() || small.isEmpty() ? "" : " AND ") + small;
        return "SELECT * FROM payments MATCH_RECOGNIZE (PARTITION BY card ORDER BY `at` MEASURES LAST(b.cents) AS drained ONE ROW PER MATCH"
                + " AFTER MATCH SKIP PAST LAST ROW PATTERN (" + (name.equals("followed") ? "a x*? b" : "a b") + ") WITHIN INTERVAL '1' HOUR"
                + " DEFINE a AS " + begins + ", b AS b.cents > 90000)";
    }

    private static long processorTime() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    public static void main(String[] arguments) throws Exception {
        String name = arguments[0];
        int patterns = Integer.parseInt(arguments[1]);
        long count = Long.parseLong(arguments[2]);
        long warm = Long.parseLong(arguments[3]);
        int parallelism = Integer.parseInt(arguments[4]);
        boolean windows = name.equals("windows");

        Configuration configuration = new Configuration();
        configuration.setString("pipeline.object-reuse", "true");
        configuration.setString("execution.buffer-timeout.enabled", "false");
        configuration.setString("state.backend.type", "hashmap");
        configuration.setString("taskmanager.memory.network.max", "1gb");
        configuration.setString("taskmanager.memory.network.min", "1gb");
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.createLocalEnvironment(parallelism, configuration);
        StreamTableEnvironment tables = StreamTableEnvironment.create(environment);

        var fields = DataTypes.ROW(
                DataTypes.FIELD("tenant", DataTypes.STRING()),
                DataTypes.FIELD("card", DataTypes.BIGINT().notNull()),
                DataTypes.FIELD("merchant", DataTypes.BIGINT().notNull()),
                DataTypes.FIELD("cents", DataTypes.BIGINT().notNull()));
        var rows = environment.addSource(new Rows(count, warm, windows), "payments", InternalTypeInfo.of((RowType) fields.getLogicalType()));
        Schema schema = Schema.newBuilder()
                .column("tenant", DataTypes.STRING())
                .column("card", DataTypes.BIGINT().notNull())
                .column("merchant", DataTypes.BIGINT().notNull())
                .column("cents", DataTypes.BIGINT().notNull())
                .columnByMetadata("at", DataTypes.TIMESTAMP_LTZ(3), "rowtime")
                .watermark("at", "SOURCE_WATERMARK()")
                .build();
        tables.createTemporaryView("payments", rows, schema);
        String text = windows
                ? "SELECT COUNT(*) OVER w AS payments, SUM(cents) OVER w AS spent FROM payments"
                        + " WINDOW w AS (PARTITION BY card ORDER BY `at` RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW)"
                : IntStream.range(0, patterns).mapToObj(number -> pattern(number, patterns, name)).collect(Collectors.joining(" UNION ALL "));
        Table table = tables.sqlQuery(text);
        DataStream<RowData> results = tables.toDataStream(table, table.getResolvedSchema().toPhysicalRowDataType().bridgedTo(RowData.class));
        results.addSink(new Count(2));

        JobExecutionResult done = environment.execute();
        double seconds = (System.nanoTime() - started) / 1e9;
        double processor = (processorTime() - used) / 1e9;
        Answers found = new Answers(done.getAccumulatorResult("rows"), done.getAccumulatorResult("sum"));
        Answers expected = switch (name) {
            case "one", "all" -> pairs(count, patterns, name.equals("all"));
            case "followed" -> followed(count, patterns);
            case "windows" -> counted(count);
            default -> throw new IllegalArgumentException(name);
        };
        if (!found.equals(expected)) {
            throw new AssertionError(found + " are not " + expected);
        }
        long timed = count - warm;
        System.out.printf(Locale.ROOT, "flink,%s,%d,%d,%d,%d,%.2f,%.2f,%.0f,%.0f%n",
                name, patterns, parallelism, timed, found.rows(), seconds, processor, timed / seconds, timed / processor);
    }
}
