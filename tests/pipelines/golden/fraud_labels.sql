SET 'table.local-time-zone' = 'UTC';

SET 'parallelism.default' = '1';

SET 'table.optimizer.reuse-optimize-block-with-digest-enabled' = 'true';

SET 'pipeline.object-reuse' = 'true';

CREATE TEMPORARY TABLE lines (
  _raw BYTES
) WITH (
  'connector' = 'filesystem',
  'path' = 'file:///input',
  'format' = 'raw'
);

CREATE TEMPORARY VIEW texts AS
SELECT _raw, CASE WHEN RAND() < 2 THEN DECODE(_raw, 'UTF-8') END AS line
FROM lines;

CREATE TEMPORARY VIEW split AS
SELECT
  _raw, line,
  CASE WHEN RAND() < 2 THEN CASE WHEN REGEXP(line, '^\{"[^"\\,:\x00-\x1F\x{FFFD}]*+":(?:"[^"\\,:\x00-\x1F\x{FFFD}]*+"|(?!-0[,}])-?(?:0|[1-9][0-9]{0,17}+)(?:\.[0-9]{1,17}+)?+|true|false|null)(?:,"[^"\\,:\x00-\x1F\x{FFFD}]*+":(?:"[^"\\,:\x00-\x1F\x{FFFD}]*+"|(?!-0[,}])-?(?:0|[1-9][0-9]{0,17}+)(?:\.[0-9]{1,17}+)?+|true|false|null))*+\}\z') THEN STR_TO_MAP(SUBSTRING(line, 2, CHAR_LENGTH(line) - 2), ',', ':') END END AS _plain
FROM texts;

CREATE TEMPORARY VIEW wrapped AS
SELECT
  _raw, _plain,
  CASE WHEN RAND() < 2 THEN CASE WHEN _plain IS NULL THEN '[' || line || ',"' || MD5(line) || '"]' END END AS w,
  CASE WHEN _plain IS NULL THEN REGEXP(line, '^[ \t\r]*\{') END AS _brace,
  CASE WHEN _plain IS NULL AND POSITION(U&'\FFFD' IN line) > 0
    THEN DECODE(ENCODE(line, 'UTF-8'), 'ISO-8859-1') = DECODE(_raw, 'ISO-8859-1')
    ELSE TRUE END AS _utf8
FROM split;

CREATE TEMPORARY VIEW parsed AS
SELECT
  _raw,
  CASE WHEN _plain IS NULL THEN _brace AND _utf8 AND COALESCE(JSON_VALUE(w, 'lax $[1]') || '"]' = RIGHT(w, 34), FALSE) ELSE TRUE END AS _object,
  CASE WHEN RAND() < 2 THEN CASE WHEN _plain IS NULL THEN JSON_QUERY(w, 'lax $[0].transaction_id' WITH UNCONDITIONAL ARRAY WRAPPER) ELSE '[' || NULLIF(_plain['"transaction_id"'], 'null') || ']' END END AS `transaction_id`,
  CASE WHEN RAND() < 2 THEN CASE WHEN _plain IS NULL THEN JSON_QUERY(w, 'lax $[0].event_time' WITH UNCONDITIONAL ARRAY WRAPPER) ELSE '[' || NULLIF(_plain['"event_time"'], 'null') || ']' END END AS `event_time`,
  CASE WHEN RAND() < 2 THEN CASE WHEN _plain IS NULL THEN JSON_QUERY(w, 'lax $[0].arrival_time' WITH UNCONDITIONAL ARRAY WRAPPER) ELSE '[' || NULLIF(_plain['"arrival_time"'], 'null') || ']' END END AS `arrival_time`,
  CASE WHEN RAND() < 2 THEN CASE WHEN _plain IS NULL THEN JSON_QUERY(w, 'lax $[0].customer_id' WITH UNCONDITIONAL ARRAY WRAPPER) ELSE '[' || NULLIF(_plain['"customer_id"'], 'null') || ']' END END AS `customer_id`,
  CASE WHEN RAND() < 2 THEN CASE WHEN _plain IS NULL THEN JSON_QUERY(w, 'lax $[0].terminal_id' WITH UNCONDITIONAL ARRAY WRAPPER) ELSE '[' || NULLIF(_plain['"terminal_id"'], 'null') || ']' END END AS `terminal_id`,
  CASE WHEN RAND() < 2 THEN CASE WHEN _plain IS NULL THEN JSON_QUERY(w, 'lax $[0].is_fraud' WITH UNCONDITIONAL ARRAY WRAPPER) ELSE '[' || NULLIF(_plain['"is_fraud"'], 'null') || ']' END END AS `is_fraud`,
  CASE WHEN RAND() < 2 THEN CASE WHEN _plain IS NULL THEN JSON_QUERY(w, 'lax $[0]._seq' WITH UNCONDITIONAL ARRAY WRAPPER) ELSE '[' || NULLIF(_plain['"_seq"'], 'null') || ']' END END AS `_seq`
FROM wrapped;

CREATE TEMPORARY VIEW digits AS
SELECT
  _raw,
  _object,
  `transaction_id` IS NULL AS `_n_transaction_id`,
  CASE WHEN RAND() < 2 THEN REGEXP_EXTRACT(`transaction_id`, '^\[\"?(-?(?:0|[1-9][0-9]*))\"?\]$', 1) END AS `transaction_id`,
  `event_time` IS NULL AS `_n_event_time`,
  CASE WHEN RAND() < 2 THEN REGEXP_EXTRACT(`event_time`, '^\[\"?(-?(?:0|[1-9][0-9]*))\"?\]$', 1) END AS `event_time`,
  `arrival_time` IS NULL AS `_n_arrival_time`,
  CASE WHEN RAND() < 2 THEN REGEXP_EXTRACT(`arrival_time`, '^\[\"?(-?(?:0|[1-9][0-9]*))\"?\]$', 1) END AS `arrival_time`,
  `customer_id` IS NULL AS `_n_customer_id`,
  CASE WHEN RAND() < 2 THEN REGEXP_EXTRACT(`customer_id`, '^\[\"?(-?(?:0|[1-9][0-9]*))\"?\]$', 1) END AS `customer_id`,
  `terminal_id` IS NULL AS `_n_terminal_id`,
  CASE WHEN RAND() < 2 THEN REGEXP_EXTRACT(`terminal_id`, '^\[\"?(-?(?:0|[1-9][0-9]*))\"?\]$', 1) END AS `terminal_id`,
  `is_fraud` IS NULL AS `_n_is_fraud`,
  CASE WHEN RAND() < 2 THEN CASE WHEN `is_fraud` IN ('[true]', '[1]') THEN 'true' WHEN `is_fraud` IN ('[false]', '[0]') THEN 'false' END END AS `is_fraud`,
  REGEXP_EXTRACT(`_seq`, '^\[\"?(-?(?:0|[1-9][0-9]*))\"?\]$', 1) AS `_seq`
FROM parsed;

CREATE TEMPORARY VIEW typed AS
SELECT
  _raw,
  _object,
  TRY_CAST(`_seq` AS BIGINT) AS `_seq`,
  CASE WHEN RAND() < 2 THEN TRY_CAST(`transaction_id` AS BIGINT) END AS `transaction_id`,
  `transaction_id` IS NOT NULL AS `_p_transaction_id`,
  CASE WHEN RAND() < 2 THEN TRY_CAST(`event_time` AS BIGINT) END AS `event_time`,
  `event_time` IS NOT NULL AS `_p_event_time`,
  CASE WHEN RAND() < 2 THEN TRY_CAST(`arrival_time` AS BIGINT) END AS `arrival_time`,
  `arrival_time` IS NOT NULL AS `_p_arrival_time`,
  CASE WHEN RAND() < 2 THEN TRY_CAST(`customer_id` AS BIGINT) END AS `customer_id`,
  `customer_id` IS NOT NULL AS `_p_customer_id`,
  CASE WHEN RAND() < 2 THEN TRY_CAST(`terminal_id` AS BIGINT) END AS `terminal_id`,
  `terminal_id` IS NOT NULL AS `_p_terminal_id`,
  CASE WHEN RAND() < 2 THEN (`is_fraud` = 'true') END AS `is_fraud`,
  (NOT `_n_transaction_id` AND `transaction_id` IS NULL) OR (NOT `_n_event_time` AND `event_time` IS NULL) OR (NOT `_n_arrival_time` AND `arrival_time` IS NULL) OR (NOT `_n_customer_id` AND `customer_id` IS NULL) OR (NOT `_n_terminal_id` AND `terminal_id` IS NULL) OR (NOT `_n_is_fraud` AND `is_fraud` IS NULL) AS _refused,
  `_n_event_time` AS _timeless
FROM digits;

CREATE TEMPORARY VIEW judged AS
SELECT
  _raw, `_seq`, `transaction_id`, `event_time`, `arrival_time`, `customer_id`, `terminal_id`, `is_fraud`,
  COALESCE(`arrival_time`, `event_time`) AS _arrival,
  COALESCE(`arrival_time`, `event_time`) - `event_time` > CAST(691200000 AS BIGINT) AS _late,
  CASE
    WHEN NOT _object THEN 'malformed'
    WHEN _timeless THEN 'null_event_time'
    WHEN _refused THEN 'wrong_type'
    WHEN (`_p_transaction_id` AND `transaction_id` IS NULL) OR (`_p_event_time` AND `event_time` IS NULL) OR `event_time` < CAST(-62135596800000 AS BIGINT) OR `event_time` > CAST(253402300799999 AS BIGINT) OR (`_p_arrival_time` AND `arrival_time` IS NULL) OR `arrival_time` < CAST(-62135596800000 AS BIGINT) OR `arrival_time` > CAST(253402300799999 AS BIGINT) OR (`_p_customer_id` AND `customer_id` IS NULL) OR (`_p_terminal_id` AND `terminal_id` IS NULL) THEN 'out_of_range'
    WHEN `transaction_id` IS NULL THEN 'null_event_id'
    WHEN `event_time` - COALESCE(`arrival_time`, `event_time`) > CAST(60000 AS BIGINT) THEN 'future'
  END AS _reason
FROM typed;

CREATE TEMPORARY VIEW fated AS
SELECT *,
  CASE
    WHEN _reason IS NOT NULL THEN 'quarantined'
    WHEN _late THEN 'late'
    ELSE 'accepted'
  END AS _fate
FROM judged;

CREATE TEMPORARY VIEW accepted AS
SELECT `_seq`, _arrival, `transaction_id`, `event_time`, `arrival_time`, `customer_id`, `terminal_id`, `is_fraud`, _identity
FROM (
SELECT
  `_seq`, _arrival, `transaction_id`, `event_time`, `arrival_time`, `customer_id`, `terminal_id`, `is_fraud`,
  (((`event_time` * CAST(2177342782468422677 AS BIGINT)) + (`event_time` * CAST(2177342782468422677 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * CAST(7640891576956012809 AS BIGINT)) + (((`transaction_id` * CAST(2177342782468422679 AS BIGINT)) + (`transaction_id` * CAST(2177342782468422679 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * CAST(7640891576956012809 AS BIGINT)) AS _identity,
  ROW_NUMBER() OVER (PARTITION BY `event_time`, `transaction_id` ORDER BY _now) AS _copy
FROM (SELECT *, PROCTIME() AS _now FROM fated WHERE _fate = 'accepted')
)
WHERE _copy = 1;

CREATE TEMPORARY TABLE `terminal_risk__tiles` (
  `key0` BIGINT,
  `tile_start` BIGINT,
  `n` BIGINT,
  `ts` BIGINT,
  `max_ts` BIGINT,
  `arrival` BIGINT,
  `min_arrival` BIGINT,
  `set_hash` BIGINT,
  `seq` BIGINT,
  `f0` BIGINT,
  `f1` BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = 'file:///output/terminal_risk__tiles',
  'format' = 'csv',
  'csv.null-literal' = '*'
);

CREATE TEMPORARY TABLE `quarantine` (
  `reason` STRING,
  `raw` BYTES,
  `seq` BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = 'file:///output/quarantine',
  'format' = 'csv',
  'csv.null-literal' = '*'
);

CREATE TEMPORARY TABLE `late` (
  `raw` BYTES,
  `seq` BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = 'file:///output/late',
  'format' = 'csv',
  'csv.null-literal' = '*'
);

CREATE TEMPORARY TABLE `skipped` (
  `view` STRING,
  `seq` BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = 'file:///output/skipped',
  'format' = 'csv',
  'csv.null-literal' = '*'
);

CREATE TEMPORARY TABLE `fates` (
  `fate` STRING,
  `seq` BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = 'file:///output/fates',
  'format' = 'csv',
  'csv.null-literal' = '*'
);

EXECUTE STATEMENT SET
BEGIN

INSERT INTO `terminal_risk__tiles`
SELECT
  `key0`,
  `tile_start`,
  COUNT(*) OVER w AS n,
  ts,
  MAX(ts) OVER w AS max_ts,
  arrival,
  MIN(arrival) OVER w AS min_arrival,
  SUM(_hash) OVER w AS set_hash,
  seq,
  COALESCE(SUM(f0) OVER w, CAST(0 AS BIGINT)) AS f0,
  COALESCE(SUM(f1) OVER w, CAST(0 AS BIGINT)) AS f1
FROM (
SELECT
  `terminal_id` AS key0,
  `event_time` - (`event_time` % CAST(3600000 AS BIGINT) + CAST(3600000 AS BIGINT)) % CAST(3600000 AS BIGINT) AS tile_start,
  `event_time` AS ts,
  _arrival AS arrival,
  `_seq` AS seq,
  (((_identity * CAST(2611923443488327891 AS BIGINT)) + (_identity * CAST(2611923443488327891 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * CAST(7640891576956012809 AS BIGINT)) AS _hash,
  CASE WHEN (`is_fraud` IS NULL) THEN CAST(NULL AS BIGINT) ELSE CASE WHEN `is_fraud` THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END END AS f0,
  CASE WHEN (NOT (CASE WHEN (`is_fraud` IS NULL) THEN CAST(NULL AS BIGINT) ELSE CASE WHEN `is_fraud` THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END END IS NULL)) THEN CAST(1 AS BIGINT) ELSE CAST(NULL AS BIGINT) END AS f1,
  PROCTIME() AS _now
FROM accepted
WHERE `terminal_id` IS NOT NULL
)
WINDOW w AS (PARTITION BY `key0`, `tile_start` ORDER BY _now ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW);

INSERT INTO `quarantine`
SELECT _reason, _raw, `_seq`
FROM fated
WHERE _fate = 'quarantined';

INSERT INTO `late`
SELECT _raw, `_seq`
FROM fated
WHERE _fate = 'late';

INSERT INTO `skipped`
SELECT 'terminal_risk', `_seq` FROM accepted WHERE NOT (`terminal_id` IS NOT NULL)
UNION ALL
SELECT CAST(NULL AS STRING), `_seq` FROM accepted WHERE NOT ((`terminal_id` IS NOT NULL));

INSERT INTO `fates`
SELECT _fate, `_seq`
FROM fated;

END;
