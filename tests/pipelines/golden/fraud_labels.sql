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
  CASE WHEN _plain IS NULL THEN SUBSTRING(JSON_QUERY(w, 'lax $[0].is_fraud' WITH UNCONDITIONAL ARRAY WRAPPER), 2, CHAR_LENGTH(JSON_QUERY(w, 'lax $[0].is_fraud' WITH UNCONDITIONAL ARRAY WRAPPER)) - 2) ELSE _plain['"is_fraud"'] END AS `_t_is_fraud`,
  CASE WHEN _plain IS NULL THEN SUBSTRING(JSON_QUERY(w, 'lax $[0]._seq' WITH UNCONDITIONAL ARRAY WRAPPER), 2, CHAR_LENGTH(JSON_QUERY(w, 'lax $[0]._seq' WITH UNCONDITIONAL ARRAY WRAPPER)) - 2) ELSE _plain['"_seq"'] END AS `_t__seq`
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
  `_t_is_fraud`,
  CASE WHEN `_t_is_fraud` IN ('true', '1') THEN TRUE WHEN `_t_is_fraud` IN ('false', '0') THEN FALSE END AS `is_fraud`
FROM parsed;

CREATE TEMPORARY VIEW judged AS
SELECT
  _raw, `_seq`, `transaction_id`, `event_time`, `arrival_time`, `customer_id`, `terminal_id`, `is_fraud`,
  COALESCE(`arrival_time`, `event_time`) AS _arrival,
  COALESCE(`arrival_time`, `event_time`) - `event_time` > CAST(691200000 AS BIGINT) AS _late,
  CASE WHEN RAND() < 2 THEN CASE
    WHEN NOT _object THEN 'malformed'
    WHEN `event_time` IS NULL AND NOT COALESCE(`_t_event_time` <> 'null', FALSE) THEN 'null_event_time'
    WHEN (`transaction_id` IS NULL AND COALESCE(`_t_transaction_id` <> 'null', FALSE) AND NOT REGEXP(`_t_transaction_id`, '^"?-?(?:0|[1-9][0-9]*)"?$')) OR (`event_time` IS NULL AND COALESCE(`_t_event_time` <> 'null', FALSE) AND NOT REGEXP(`_t_event_time`, '^"?-?(?:0|[1-9][0-9]*)"?$')) OR (`arrival_time` IS NULL AND COALESCE(`_t_arrival_time` <> 'null', FALSE) AND NOT REGEXP(`_t_arrival_time`, '^"?-?(?:0|[1-9][0-9]*)"?$')) OR (`customer_id` IS NULL AND COALESCE(`_t_customer_id` <> 'null', FALSE) AND NOT REGEXP(`_t_customer_id`, '^"?-?(?:0|[1-9][0-9]*)"?$')) OR (`terminal_id` IS NULL AND COALESCE(`_t_terminal_id` <> 'null', FALSE) AND NOT REGEXP(`_t_terminal_id`, '^"?-?(?:0|[1-9][0-9]*)"?$')) OR (`is_fraud` IS NULL AND COALESCE(`_t_is_fraud` <> 'null', FALSE)) THEN 'wrong_type'
    WHEN (`transaction_id` IS NULL AND COALESCE(`_t_transaction_id` <> 'null', FALSE)) OR (`event_time` IS NULL AND COALESCE(`_t_event_time` <> 'null', FALSE)) OR `event_time` < CAST(-62135596800000 AS BIGINT) OR `event_time` > CAST(253402300799999 AS BIGINT) OR (`arrival_time` IS NULL AND COALESCE(`_t_arrival_time` <> 'null', FALSE)) OR `arrival_time` < CAST(-62135596800000 AS BIGINT) OR `arrival_time` > CAST(253402300799999 AS BIGINT) OR (`customer_id` IS NULL AND COALESCE(`_t_customer_id` <> 'null', FALSE)) OR (`terminal_id` IS NULL AND COALESCE(`_t_terminal_id` <> 'null', FALSE)) OR (`is_fraud` IS NULL AND COALESCE(`_t_is_fraud` <> 'null', FALSE)) THEN 'out_of_range'
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
SELECT `_seq`, _arrival, `transaction_id`, `event_time`, `arrival_time`, `customer_id`, `terminal_id`, `is_fraud`, _identity
FROM (
SELECT
  `_seq`, _arrival, `transaction_id`, `event_time`, `arrival_time`, `customer_id`, `terminal_id`, `is_fraud`,
  (((`event_time` * CAST(2177342782468422677 AS BIGINT)) * ((`event_time` * CAST(2177342782468422677 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (`event_time` * CAST(2177342782468422677 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * (((`event_time` * CAST(2177342782468422677 AS BIGINT)) * ((`event_time` * CAST(2177342782468422677 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (`event_time` * CAST(2177342782468422677 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT))) + (((`transaction_id` * CAST(2177342782468422679 AS BIGINT)) * ((`transaction_id` * CAST(2177342782468422679 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (`transaction_id` * CAST(2177342782468422679 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * (((`transaction_id` * CAST(2177342782468422679 AS BIGINT)) * ((`transaction_id` * CAST(2177342782468422679 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (`transaction_id` * CAST(2177342782468422679 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT))) AS _identity,
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
  SUM(f0) OVER w AS f0,
  SUM(f1) OVER w AS f1
FROM (
SELECT
  `terminal_id` AS key0,
  `event_time` - (`event_time` % CAST(3600000 AS BIGINT) + CAST(3600000 AS BIGINT)) % CAST(3600000 AS BIGINT) AS tile_start,
  `event_time` AS ts,
  _arrival AS arrival,
  `_seq` AS seq,
  COALESCE((((_identity * CAST(2611923443488327891 AS BIGINT)) * ((_identity * CAST(2611923443488327891 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (_identity * CAST(2611923443488327891 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * (((_identity * CAST(2611923443488327891 AS BIGINT)) * ((_identity * CAST(2611923443488327891 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT)) + (_identity * CAST(2611923443488327891 AS BIGINT)) / CAST(4294967296 AS BIGINT)) * CAST(2 AS BIGINT) + CAST(1 AS BIGINT))), CAST(0 AS BIGINT)) AS _hash,
  COALESCE(CASE WHEN (`is_fraud` IS NULL) THEN CAST(NULL AS BIGINT) ELSE CASE WHEN `is_fraud` THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END END, CAST(0 AS BIGINT)) AS f0,
  COALESCE(CASE WHEN (NOT (CASE WHEN (`is_fraud` IS NULL) THEN CAST(NULL AS BIGINT) ELSE CASE WHEN `is_fraud` THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END END IS NULL)) THEN CAST(1 AS BIGINT) ELSE CAST(NULL AS BIGINT) END, CAST(0 AS BIGINT)) AS f1,
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
