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
  CASE WHEN RAND() < 2 AND line NOT LIKE U&'%\FFFD%' AND REGEXP(line, '^\{"[^"\\,:\x00-\x1F]*+":(?:"[^"\\,:\x00-\x1F]*+"|(?!-0[,}])-?(?:0|[1-9][0-9]{0,17}+)(?:\.[0-9]{1,17}+)?+|true|false|null)(?:,"[^"\\,:\x00-\x1F]*+":(?:"[^"\\,:\x00-\x1F]*+"|(?!-0[,}])-?(?:0|[1-9][0-9]{0,17}+)(?:\.[0-9]{1,17}+)?+|true|false|null))*+\}\z') THEN STR_TO_MAP(SUBSTRING(line, 2, CHAR_LENGTH(line) - 2), ',', ':') END AS _plain
FROM texts;

CREATE TEMPORARY VIEW wrapped AS
SELECT
  _raw, _plain,
  CASE WHEN RAND() < 2 AND _plain IS NULL THEN '[' || line || ',"' || MD5(line) || '"]' END AS w,
  CASE WHEN _plain IS NULL THEN REGEXP(line, '^[ \t\r]*\{') END AS _brace,
  CASE WHEN _plain IS NULL AND line LIKE U&'%\FFFD%'
    THEN DECODE(ENCODE(line, 'UTF-8'), 'ISO-8859-1') = DECODE(_raw, 'ISO-8859-1')
    ELSE TRUE END AS _utf8
FROM split;

CREATE TEMPORARY VIEW parsed AS
SELECT
  _raw,
  CASE WHEN _plain IS NULL THEN _brace AND _utf8 AND COALESCE(JSON_VALUE(w, 'lax $[1]') || '"]' = RIGHT(w, 34), FALSE) ELSE TRUE END AS _object,
  CASE WHEN _plain IS NULL THEN SUBSTRING(JSON_QUERY(w, 'lax $[0].transaction_id' WITH UNCONDITIONAL ARRAY WRAPPER), 2, CHAR_LENGTH(JSON_QUERY(w, 'lax $[0].transaction_id' WITH UNCONDITIONAL ARRAY WRAPPER)) - 2) ELSE _plain['"transaction_id"'] END AS `_t_transaction_id`,
  CASE WHEN RAND() < 2 THEN CASE WHEN _plain IS NULL THEN SUBSTRING(JSON_QUERY(w, 'lax $[0].event_time' WITH UNCONDITIONAL ARRAY WRAPPER), 2, CHAR_LENGTH(JSON_QUERY(w, 'lax $[0].event_time' WITH UNCONDITIONAL ARRAY WRAPPER)) - 2) ELSE _plain['"event_time"'] END END AS `_t_event_time`,
  CASE WHEN _plain IS NULL THEN SUBSTRING(JSON_QUERY(w, 'lax $[0].arrival_time' WITH UNCONDITIONAL ARRAY WRAPPER), 2, CHAR_LENGTH(JSON_QUERY(w, 'lax $[0].arrival_time' WITH UNCONDITIONAL ARRAY WRAPPER)) - 2) ELSE _plain['"arrival_time"'] END AS `_t_arrival_time`,
  CASE WHEN _plain IS NULL THEN SUBSTRING(JSON_QUERY(w, 'lax $[0].customer_id' WITH UNCONDITIONAL ARRAY WRAPPER), 2, CHAR_LENGTH(JSON_QUERY(w, 'lax $[0].customer_id' WITH UNCONDITIONAL ARRAY WRAPPER)) - 2) ELSE _plain['"customer_id"'] END AS `_t_customer_id`,
  CASE WHEN _plain IS NULL THEN SUBSTRING(JSON_QUERY(w, 'lax $[0].terminal_id' WITH UNCONDITIONAL ARRAY WRAPPER), 2, CHAR_LENGTH(JSON_QUERY(w, 'lax $[0].terminal_id' WITH UNCONDITIONAL ARRAY WRAPPER)) - 2) ELSE _plain['"terminal_id"'] END AS `_t_terminal_id`,
  CASE WHEN _plain IS NULL THEN SUBSTRING(JSON_QUERY(w, 'lax $[0].amount' WITH UNCONDITIONAL ARRAY WRAPPER), 2, CHAR_LENGTH(JSON_QUERY(w, 'lax $[0].amount' WITH UNCONDITIONAL ARRAY WRAPPER)) - 2) ELSE _plain['"amount"'] END AS `_t_amount`,
  CASE WHEN _plain IS NULL THEN SUBSTRING(JSON_QUERY(w, 'lax $[0].country' WITH UNCONDITIONAL ARRAY WRAPPER), 2, CHAR_LENGTH(JSON_QUERY(w, 'lax $[0].country' WITH UNCONDITIONAL ARRAY WRAPPER)) - 2) ELSE _plain['"country"'] END AS `_t_country`,
  CASE WHEN _plain IS NULL THEN SUBSTRING(JSON_QUERY(w, 'lax $[0]._seq' WITH UNCONDITIONAL ARRAY WRAPPER), 2, CHAR_LENGTH(JSON_QUERY(w, 'lax $[0]._seq' WITH UNCONDITIONAL ARRAY WRAPPER)) - 2) ELSE _plain['"_seq"'] END AS `_t__seq`,
  CASE WHEN _plain IS NULL THEN JSON_VALUE(w, 'lax $[0].country') ELSE SUBSTRING(_plain['"country"'], 2, CHAR_LENGTH(_plain['"country"']) - 2) END AS `_s_country`
FROM wrapped;

CREATE TEMPORARY VIEW typed AS
SELECT
  _raw,
  _object,
  TRY_CAST(`_t__seq` AS BIGINT) AS `_seq`,
  `_t_transaction_id`,
  CASE WHEN `_t_transaction_id` LIKE '"%' THEN CASE WHEN REGEXP(`_t_transaction_id`, '^"-?(?:0|[1-9][0-9]*)"$') THEN TRY_CAST(SUBSTRING(`_t_transaction_id`, 2, CHAR_LENGTH(`_t_transaction_id`) - 2) AS BIGINT) END WHEN REGEXP(`_t_transaction_id`, '^-?(?:0|[1-9][0-9]*)$') THEN TRY_CAST(`_t_transaction_id` AS BIGINT) END AS `transaction_id`,
  `_t_event_time`,
  CASE WHEN RAND() < 2 THEN CASE WHEN `_t_event_time` LIKE '"%' THEN CASE WHEN REGEXP(`_t_event_time`, '^"-?(?:0|[1-9][0-9]*)"$') THEN TRY_CAST(SUBSTRING(`_t_event_time`, 2, CHAR_LENGTH(`_t_event_time`) - 2) AS BIGINT) END WHEN REGEXP(`_t_event_time`, '^-?(?:0|[1-9][0-9]*)$') THEN TRY_CAST(`_t_event_time` AS BIGINT) END END AS `event_time`,
  `_t_arrival_time`,
  CASE WHEN `_t_arrival_time` LIKE '"%' THEN CASE WHEN REGEXP(`_t_arrival_time`, '^"-?(?:0|[1-9][0-9]*)"$') THEN TRY_CAST(SUBSTRING(`_t_arrival_time`, 2, CHAR_LENGTH(`_t_arrival_time`) - 2) AS BIGINT) END WHEN REGEXP(`_t_arrival_time`, '^-?(?:0|[1-9][0-9]*)$') THEN TRY_CAST(`_t_arrival_time` AS BIGINT) END AS `arrival_time`,
  `_t_customer_id`,
  CASE WHEN `_t_customer_id` LIKE '"%' THEN CASE WHEN REGEXP(`_t_customer_id`, '^"-?(?:0|[1-9][0-9]*)"$') THEN TRY_CAST(SUBSTRING(`_t_customer_id`, 2, CHAR_LENGTH(`_t_customer_id`) - 2) AS BIGINT) END WHEN REGEXP(`_t_customer_id`, '^-?(?:0|[1-9][0-9]*)$') THEN TRY_CAST(`_t_customer_id` AS BIGINT) END AS `customer_id`,
  `_t_terminal_id`,
  CASE WHEN `_t_terminal_id` LIKE '"%' THEN CASE WHEN REGEXP(`_t_terminal_id`, '^"-?(?:0|[1-9][0-9]*)"$') THEN TRY_CAST(SUBSTRING(`_t_terminal_id`, 2, CHAR_LENGTH(`_t_terminal_id`) - 2) AS BIGINT) END WHEN REGEXP(`_t_terminal_id`, '^-?(?:0|[1-9][0-9]*)$') THEN TRY_CAST(`_t_terminal_id` AS BIGINT) END AS `terminal_id`,
  `_t_amount`,
  CASE WHEN `_t_amount` LIKE '"%' THEN CASE WHEN REGEXP(`_t_amount`, '^"-?(?:0|[1-9][0-9]*)(?:\.[0-9]{1,2})?"$') THEN TRY_CAST(SPLIT_INDEX(SUBSTRING(`_t_amount`, 2, CHAR_LENGTH(`_t_amount`) - 2), '.', 0) || SUBSTRING(COALESCE(SPLIT_INDEX(SUBSTRING(`_t_amount`, 2, CHAR_LENGTH(`_t_amount`) - 2), '.', 1), '') || '00', 1, 2) AS BIGINT) END WHEN REGEXP(`_t_amount`, '^-?(?:0|[1-9][0-9]*)(?:\.[0-9]{1,2})?$') THEN TRY_CAST(SPLIT_INDEX(`_t_amount`, '.', 0) || SUBSTRING(COALESCE(SPLIT_INDEX(`_t_amount`, '.', 1), '') || '00', 1, 2) AS BIGINT) END AS `amount`,
  `_t_country`,
  CASE WHEN `_t_country` LIKE '"%' AND NOT REGEXP(`_s_country`, '[\uD800-\uDFFF]') THEN `_s_country` END AS `country`
FROM parsed;

CREATE TEMPORARY VIEW judged AS
SELECT
  _raw, `_seq`, `transaction_id`, `event_time`, `arrival_time`, `customer_id`, `terminal_id`, `amount`, `country`,
  COALESCE(`arrival_time`, `event_time`) AS _arrival,
  COALESCE(`arrival_time`, `event_time`) - `event_time` > CAST(86400000 AS BIGINT) AS _late,
  CASE WHEN RAND() < 2 THEN CASE
    WHEN NOT _object THEN 'malformed'
    WHEN `event_time` IS NULL AND NOT COALESCE(`_t_event_time` <> 'null', FALSE) THEN 'null_event_time'
    WHEN (`transaction_id` IS NULL AND COALESCE(`_t_transaction_id` <> 'null', FALSE) AND NOT REGEXP(`_t_transaction_id`, '^"?-?(?:0|[1-9][0-9]*)"?$')) OR (`event_time` IS NULL AND COALESCE(`_t_event_time` <> 'null', FALSE) AND NOT REGEXP(`_t_event_time`, '^"?-?(?:0|[1-9][0-9]*)"?$')) OR (`arrival_time` IS NULL AND COALESCE(`_t_arrival_time` <> 'null', FALSE) AND NOT REGEXP(`_t_arrival_time`, '^"?-?(?:0|[1-9][0-9]*)"?$')) OR (`customer_id` IS NULL AND COALESCE(`_t_customer_id` <> 'null', FALSE) AND NOT REGEXP(`_t_customer_id`, '^"?-?(?:0|[1-9][0-9]*)"?$')) OR (`terminal_id` IS NULL AND COALESCE(`_t_terminal_id` <> 'null', FALSE) AND NOT REGEXP(`_t_terminal_id`, '^"?-?(?:0|[1-9][0-9]*)"?$')) OR (`amount` IS NULL AND COALESCE(`_t_amount` <> 'null', FALSE) AND NOT REGEXP(`_t_amount`, '^"?-?(?:0|[1-9][0-9]*)(?:\.[0-9]{1,2})?"?$')) OR (`country` IS NULL AND COALESCE(`_t_country` <> 'null', FALSE)) THEN 'wrong_type'
    WHEN (`transaction_id` IS NULL AND COALESCE(`_t_transaction_id` <> 'null', FALSE)) OR (`event_time` IS NULL AND COALESCE(`_t_event_time` <> 'null', FALSE)) OR `event_time` < CAST(-62135596800000 AS BIGINT) OR `event_time` > CAST(253402300799999 AS BIGINT) OR (`arrival_time` IS NULL AND COALESCE(`_t_arrival_time` <> 'null', FALSE)) OR `arrival_time` < CAST(-62135596800000 AS BIGINT) OR `arrival_time` > CAST(253402300799999 AS BIGINT) OR (`customer_id` IS NULL AND COALESCE(`_t_customer_id` <> 'null', FALSE)) OR (`terminal_id` IS NULL AND COALESCE(`_t_terminal_id` <> 'null', FALSE)) OR (`amount` IS NULL AND COALESCE(`_t_amount` <> 'null', FALSE)) OR `amount` < CAST(-999999999999 AS BIGINT) OR `amount` > CAST(999999999999 AS BIGINT) OR (`country` IS NULL AND COALESCE(`_t_country` <> 'null', FALSE)) THEN 'out_of_range'
    WHEN `transaction_id` IS NULL THEN 'null_event_id'
    WHEN `event_time` - COALESCE(`arrival_time`, `event_time`) > CAST(60000 AS BIGINT) THEN 'future'
  END END AS _reason
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
SELECT `_seq`, _arrival, `transaction_id`, `event_time`, `arrival_time`, `customer_id`, `terminal_id`, `amount`, `country`, _identity
FROM (
SELECT
  `_seq`, _arrival, `transaction_id`, `event_time`, `arrival_time`, `customer_id`, `terminal_id`, `amount`, `country`,
  (((`event_time` * CAST(2177342782468422677 AS BIGINT)) * ((`event_time` * CAST(2177342782468422677 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (`event_time` * CAST(2177342782468422677 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * (((`event_time` * CAST(2177342782468422677 AS BIGINT)) * ((`event_time` * CAST(2177342782468422677 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (`event_time` * CAST(2177342782468422677 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT))) + (((`transaction_id` * CAST(2177342782468422679 AS BIGINT)) * ((`transaction_id` * CAST(2177342782468422679 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (`transaction_id` * CAST(2177342782468422679 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * (((`transaction_id` * CAST(2177342782468422679 AS BIGINT)) * ((`transaction_id` * CAST(2177342782468422679 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (`transaction_id` * CAST(2177342782468422679 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT))) AS _identity,
  ROW_NUMBER() OVER (PARTITION BY `event_time`, `transaction_id` ORDER BY _now) AS _copy
FROM (SELECT *, PROCTIME() AS _now FROM fated WHERE _fate = 'accepted')
)
WHERE _copy = 1;

CREATE TEMPORARY TABLE `customer_activity__tiles` (
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
  `f1` BIGINT,
  `f2` BIGINT,
  `f3` BIGINT,
  `f4` BIGINT,
  `f6` BIGINT,
  `f8` STRING
) WITH (
  'connector' = 'filesystem',
  'path' = 'file:///output/customer_activity__tiles',
  'format' = 'csv',
  'csv.null-literal' = '*'
);

CREATE TEMPORARY TABLE `customer_activity__f5__values` (
  `key0` BIGINT,
  `tile_start` BIGINT,
  `value` BIGINT,
  `count` BIGINT,
  `ts` BIGINT,
  `max_ts` BIGINT,
  `arrival` BIGINT,
  `min_arrival` BIGINT,
  `seq` BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = 'file:///output/customer_activity__f5__values',
  'format' = 'csv',
  'csv.null-literal' = '*'
);

CREATE TEMPORARY TABLE `customer_activity__f7__entries` (
  `key0` BIGINT,
  `tile_start` BIGINT,
  `ts` BIGINT,
  `arrival` BIGINT,
  `id0` BIGINT,
  `value` BIGINT,
  `seq` BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = 'file:///output/customer_activity__f7__entries',
  'format' = 'csv',
  'csv.null-literal' = '*'
);

CREATE TEMPORARY TABLE `terminal_activity__tiles` (
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
  `f1` BIGINT,
  `f2` BIGINT,
  `f3` BIGINT,
  `f4` BIGINT,
  `f6` BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = 'file:///output/terminal_activity__tiles',
  'format' = 'csv',
  'csv.null-literal' = '*'
);

CREATE TEMPORARY TABLE `terminal_activity__f5__values` (
  `key0` BIGINT,
  `tile_start` BIGINT,
  `value` BIGINT,
  `count` BIGINT,
  `ts` BIGINT,
  `max_ts` BIGINT,
  `arrival` BIGINT,
  `min_arrival` BIGINT,
  `seq` BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = 'file:///output/terminal_activity__f5__values',
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

INSERT INTO `customer_activity__tiles`
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
  COUNT(*) OVER w AS f0,
  SUM(f1) OVER w AS f1,
  SUM(f2) OVER w AS f2,
  MIN(f3) OVER w AS f3,
  MAX(f4) OVER w AS f4,
  MAX(f6) OVER w AS f6,
  MAX(f8) OVER w AS f8
FROM (
SELECT
  `customer_id` AS key0,
  `event_time` - (`event_time` % CAST(300000 AS BIGINT) + CAST(300000 AS BIGINT)) % CAST(300000 AS BIGINT) AS tile_start,
  `event_time` AS ts,
  _arrival AS arrival,
  `_seq` AS seq,
  COALESCE((((_identity * CAST(2611923443488327891 AS BIGINT)) * ((_identity * CAST(2611923443488327891 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (_identity * CAST(2611923443488327891 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * (((_identity * CAST(2611923443488327891 AS BIGINT)) * ((_identity * CAST(2611923443488327891 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (_identity * CAST(2611923443488327891 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT))), CAST(0 AS BIGINT)) AS _hash,
  COALESCE(`amount`, CAST(0 AS BIGINT)) AS f1,
  COALESCE(CASE WHEN (NOT (`amount` IS NULL)) THEN CAST(1 AS BIGINT) ELSE CAST(NULL AS BIGINT) END, CAST(0 AS BIGINT)) AS f2,
  `amount` AS f3,
  `amount` AS f4,
  CASE WHEN (NOT (`amount` IS NULL)) THEN `event_time` ELSE CAST(NULL AS BIGINT) END AS f6,
  (CASE WHEN `event_time` < 0 THEN '0' || LPAD(CAST(`event_time` + CAST(9223372036854775807 AS BIGINT) + CAST(1 AS BIGINT) AS STRING), 19, '0') ELSE '1' || LPAD(CAST(`event_time` AS STRING), 19, '0') END) || ' ' || (CASE WHEN `transaction_id` < 0 THEN '0' || LPAD(CAST(`transaction_id` + CAST(9223372036854775807 AS BIGINT) + CAST(1 AS BIGINT) AS STRING), 19, '0') ELSE '1' || LPAD(CAST(`transaction_id` AS STRING), 19, '0') END) || ' ' || (HEX(`country`)) AS f8,
  PROCTIME() AS _now
FROM accepted
WHERE `customer_id` IS NOT NULL
)
WINDOW w AS (PARTITION BY `key0`, `tile_start` ORDER BY _now ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW);

INSERT INTO `customer_activity__f5__values`
SELECT
  `key0`,
  `tile_start`,
  `value`,
  COUNT(*) OVER w AS `count`,
  ts,
  MAX(ts) OVER w AS max_ts,
  arrival,
  MIN(arrival) OVER w AS min_arrival,
  seq
FROM (
SELECT
  `customer_id` AS key0,
  `event_time` - (`event_time` % CAST(300000 AS BIGINT) + CAST(300000 AS BIGINT)) % CAST(300000 AS BIGINT) AS tile_start,
  `event_time` AS ts,
  _arrival AS arrival,
  `_seq` AS seq,
  `terminal_id` AS `value`,
  PROCTIME() AS _now
FROM accepted
WHERE `customer_id` IS NOT NULL AND `terminal_id` IS NOT NULL
)
WINDOW w AS (PARTITION BY `key0`, `tile_start`, `value` ORDER BY _now ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW);

INSERT INTO `customer_activity__f7__entries`
SELECT `key0`, `tile_start`, `ts`, `arrival`, `id0`, `value`, `seq`
FROM (
SELECT
  `customer_id` AS key0,
  `event_time` - (`event_time` % CAST(300000 AS BIGINT) + CAST(300000 AS BIGINT)) % CAST(300000 AS BIGINT) AS tile_start,
  `event_time` AS ts,
  _arrival AS arrival,
  `_seq` AS seq,
  `transaction_id` AS id0,
  `amount` AS `value`
FROM accepted
WHERE `customer_id` IS NOT NULL AND `amount` IS NOT NULL
);

INSERT INTO `terminal_activity__tiles`
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
  COUNT(*) OVER w AS f0,
  SUM(f1) OVER w AS f1,
  SUM(f2) OVER w AS f2,
  MIN(f3) OVER w AS f3,
  MAX(f4) OVER w AS f4,
  MAX(f6) OVER w AS f6
FROM (
SELECT
  `terminal_id` AS key0,
  `event_time` - (`event_time` % CAST(300000 AS BIGINT) + CAST(300000 AS BIGINT)) % CAST(300000 AS BIGINT) AS tile_start,
  `event_time` AS ts,
  _arrival AS arrival,
  `_seq` AS seq,
  COALESCE((((_identity * CAST(2611923443488327891 AS BIGINT)) * ((_identity * CAST(2611923443488327891 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (_identity * CAST(2611923443488327891 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * (((_identity * CAST(2611923443488327891 AS BIGINT)) * ((_identity * CAST(2611923443488327891 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (_identity * CAST(2611923443488327891 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT))), CAST(0 AS BIGINT)) AS _hash,
  COALESCE(`amount`, CAST(0 AS BIGINT)) AS f1,
  COALESCE(CASE WHEN (NOT (`amount` IS NULL)) THEN CAST(1 AS BIGINT) ELSE CAST(NULL AS BIGINT) END, CAST(0 AS BIGINT)) AS f2,
  `amount` AS f3,
  `amount` AS f4,
  CASE WHEN (NOT (`amount` IS NULL)) THEN `event_time` ELSE CAST(NULL AS BIGINT) END AS f6,
  PROCTIME() AS _now
FROM accepted
WHERE `terminal_id` IS NOT NULL
)
WINDOW w AS (PARTITION BY `key0`, `tile_start` ORDER BY _now ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW);

INSERT INTO `terminal_activity__f5__values`
SELECT
  `key0`,
  `tile_start`,
  `value`,
  COUNT(*) OVER w AS `count`,
  ts,
  MAX(ts) OVER w AS max_ts,
  arrival,
  MIN(arrival) OVER w AS min_arrival,
  seq
FROM (
SELECT
  `terminal_id` AS key0,
  `event_time` - (`event_time` % CAST(300000 AS BIGINT) + CAST(300000 AS BIGINT)) % CAST(300000 AS BIGINT) AS tile_start,
  `event_time` AS ts,
  _arrival AS arrival,
  `_seq` AS seq,
  `customer_id` AS `value`,
  PROCTIME() AS _now
FROM accepted
WHERE `terminal_id` IS NOT NULL AND `customer_id` IS NOT NULL
)
WINDOW w AS (PARTITION BY `key0`, `tile_start`, `value` ORDER BY _now ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW);

INSERT INTO `quarantine`
SELECT _reason, _raw, `_seq`
FROM fated
WHERE _fate = 'quarantined';

INSERT INTO `late`
SELECT _raw, `_seq`
FROM fated
WHERE _fate = 'late';

INSERT INTO `skipped`
SELECT 'customer_activity', `_seq` FROM accepted WHERE NOT (`customer_id` IS NOT NULL)
UNION ALL
SELECT 'terminal_activity', `_seq` FROM accepted WHERE NOT (`terminal_id` IS NOT NULL)
UNION ALL
SELECT CAST(NULL AS STRING), `_seq` FROM accepted WHERE NOT ((`customer_id` IS NOT NULL) OR (`terminal_id` IS NOT NULL));

INSERT INTO `fates`
SELECT _fate, `_seq`
FROM fated;

END;
