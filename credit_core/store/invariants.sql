-- The invariants of SPEC 2 as queries that return no rows. A line `-- n` begins those of invariant n; 8 is the walk over the
-- hash chain, in Python. They run unchanged on SQLite and PostgreSQL.

-- 1
SELECT a.account_id, a.avail_uc, a.held_uc, COALESCE(e.avail_uc, 0), COALESCE(e.held_uc, 0)
FROM accounts a
LEFT JOIN (SELECT account_id, SUM(d_avail_uc) AS avail_uc, SUM(d_held_uc) AS held_uc
  FROM ledger_entries
  GROUP BY account_id) e ON e.account_id = a.account_id
WHERE a.avail_uc <> COALESCE(e.avail_uc, 0) OR a.held_uc <> COALESCE(e.held_uc, 0);

SELECT l.lot_id, l.avail_uc, l.held_uc, COALESCE(e.avail_uc, 0), COALESCE(e.held_uc, 0)
FROM lots l
LEFT JOIN (SELECT lot_id, SUM(d_avail_uc) AS avail_uc, SUM(d_held_uc) AS held_uc
  FROM ledger_entries
  WHERE lot_id IS NOT NULL
  GROUP BY lot_id) e ON e.lot_id = l.lot_id
WHERE l.avail_uc <> COALESCE(e.avail_uc, 0) OR l.held_uc <> COALESCE(e.held_uc, 0);

SELECT e.account_id, e.seq, e.lot_id
FROM ledger_entries e
LEFT JOIN lots l ON l.lot_id = e.lot_id
WHERE (e.d_avail_uc <> 0 OR e.d_held_uc <> 0) AND (l.lot_id IS NULL OR l.account_id <> e.account_id);

SELECT account_id, counted_at, SUM(d_count)
FROM ledger_entries
WHERE d_count IS NOT NULL
GROUP BY account_id, counted_at
HAVING SUM(d_count) < 0;

SELECT w.window_key, w.used, COALESCE(SUM(e.d_count), 0)
FROM guest_windows w
LEFT JOIN ledger_entries e ON e.account_id = SUBSTR(w.window_key, 9) AND e.d_count IS NOT NULL AND e.counted_at >= w.opened_at
WHERE w.ip_hash IS NULL
GROUP BY w.window_key, w.used
HAVING w.used <> COALESCE(SUM(e.d_count), 0);

SELECT w.window_key, w.used, COALESCE(SUM(e.d_count), 0)
FROM guest_windows w
LEFT JOIN (SELECT g.ip_hash, g.counted_at, g.d_count
  FROM ledger_entries g
  JOIN accounts a ON a.account_id = g.account_id AND a.kind = 'guest'
  WHERE g.d_count IS NOT NULL AND g.ip_hash IS NOT NULL) e ON e.ip_hash = w.ip_hash AND e.counted_at >= w.opened_at
WHERE w.ip_hash IS NOT NULL
GROUP BY w.window_key, w.used
HAVING w.used <> COALESCE(SUM(e.d_count), 0);

-- 2
SELECT account_id, seq
FROM (SELECT account_id, seq, line, leg_id, SUM(d_avail_uc) OVER w AS avail_uc, SUM(d_held_uc) OVER w AS held_uc
  FROM ledger_entries
  WINDOW w AS (PARTITION BY account_id ORDER BY seq)) r
WHERE avail_uc < 0 OR held_uc < 0;

SELECT lot_id, seq
FROM (SELECT lot_id, seq, SUM(d_avail_uc) OVER w AS avail_uc, SUM(d_held_uc) OVER w AS held_uc
  FROM ledger_entries
  WHERE lot_id IS NOT NULL
  WINDOW w AS (PARTITION BY lot_id ORDER BY seq)) r
WHERE avail_uc < 0 OR held_uc < 0;

-- 3
SELECT leg_id, line, kind, d_avail_uc, d_held_uc
FROM ledger_entries
WHERE NOT CASE kind
WHEN 'grant' THEN d_avail_uc > 0 AND d_held_uc = 0
WHEN 'adjust' THEN d_avail_uc <> 0 AND d_held_uc = 0
WHEN 'rollover' THEN d_avail_uc <> 0 AND d_held_uc = 0
WHEN 'expire' THEN d_avail_uc < 0 AND d_held_uc = 0
WHEN 'clamp' THEN d_avail_uc < 0 AND d_held_uc = 0
WHEN 'import' THEN d_avail_uc <= 0 AND d_held_uc = 0
WHEN 'reserve' THEN d_avail_uc <= 0 AND d_held_uc = -d_avail_uc
WHEN 'settle' THEN d_avail_uc >= 0 AND d_held_uc <= 0 AND d_avail_uc <= -d_held_uc
WHEN 'release' THEN d_avail_uc >= 0 AND d_held_uc = -d_avail_uc
WHEN 'partial' THEN d_avail_uc >= 0 AND d_held_uc = -d_avail_uc
WHEN 'refund' THEN d_avail_uc > 0 AND d_held_uc = 0
ELSE d_avail_uc = 0 AND d_held_uc = 0 END;

SELECT leg_id, SUM(d_avail_uc)
FROM ledger_entries
WHERE kind = 'rollover'
GROUP BY leg_id
HAVING SUM(d_avail_uc) <> 0;

SELECT leg_id, COUNT(*), MAX(line)
FROM ledger_entries
GROUP BY leg_id
HAVING COUNT(*) <> MAX(line) OR MIN(line) <> 1 OR MIN(kind) <> MAX(kind) OR MIN(account_id) <> MAX(account_id) OR
MAX(seq) - MIN(seq) <> COUNT(*) - 1;

SELECT r.user_id, r.request_id, r.refunded_uc, s.settled_uc
FROM (SELECT user_id, request_id, SUM(d_avail_uc) AS refunded_uc
  FROM ledger_entries
  WHERE kind = 'refund'
  GROUP BY user_id, request_id) r
LEFT JOIN (SELECT user_id, request_id, -SUM(d_avail_uc + d_held_uc) AS settled_uc
  FROM ledger_entries
  WHERE kind = 'settle'
  GROUP BY user_id, request_id) s ON s.user_id = r.user_id AND s.request_id = r.request_id
WHERE r.refunded_uc > COALESCE(s.settled_uc, 0);

SELECT leg_id, line, kind, d_count
FROM ledger_entries
WHERE (d_count IS NULL) <> (counted_at IS NULL)
  OR (d_count IS NULL AND kind = 'reserve' AND quota_policy IN ('daily_count', 'plan_credits', 'guest_window'))
  OR (d_count IS NOT NULL AND (line <> 1 OR images IS NULL OR NOT CASE kind
WHEN 'reserve' THEN d_count > 0 AND d_count = images
WHEN 'import' THEN d_count > 0 AND d_count = images
WHEN 'release' THEN d_count < 0 AND d_count = -images
WHEN 'partial' THEN d_count < 0 AND d_count = -images
ELSE d_count <> d_count END));

SELECT e.leg_id, e.d_count, r.d_count
FROM (SELECT leg_id, user_id, request_id, d_count, counted_at
  FROM ledger_entries
  WHERE kind IN ('release', 'partial') AND line = 1) e
JOIN (SELECT user_id, request_id, d_count, counted_at
  FROM ledger_entries
  WHERE kind = 'reserve' AND line = 1) r ON r.user_id = e.user_id AND r.request_id = e.request_id
WHERE COALESCE(e.d_count, 0) <> -COALESCE(r.d_count, 0) OR e.counted_at <> r.counted_at;

-- 4
SELECT a.account_id, a.held_uc, COALESCE(o.held_uc, 0)
FROM accounts a
LEFT JOIN (SELECT r.account_id, SUM(r.held_uc) AS held_uc
  FROM (SELECT leg_id, account_id, user_id, request_id, SUM(d_held_uc) AS held_uc, MIN(config_version) AS
    config_version
    FROM ledger_entries
    WHERE kind = 'reserve'
    GROUP BY leg_id, account_id, user_id, request_id) r
  LEFT JOIN (SELECT user_id, request_id, MIN(leg_id) AS leg_id
    FROM ledger_entries
    WHERE kind IN ('settle', 'release', 'partial')
    GROUP BY user_id, request_id) e ON e.user_id = r.user_id AND e.request_id = r.request_id
  WHERE e.leg_id IS NULL
  GROUP BY r.account_id) o ON o.account_id = a.account_id
WHERE a.held_uc <> COALESCE(o.held_uc, 0);

SELECT h.leg_id, h.amount_uc, r.held_uc
FROM holds h
LEFT JOIN (SELECT leg_id, account_id, user_id, request_id, SUM(d_held_uc) AS held_uc, MIN(config_version) AS
  config_version
  FROM ledger_entries
  WHERE kind = 'reserve'
  GROUP BY leg_id, account_id, user_id, request_id) r ON r.leg_id = h.leg_id
LEFT JOIN (SELECT user_id, request_id, MIN(leg_id) AS leg_id
  FROM ledger_entries
  WHERE kind IN ('settle', 'release', 'partial')
  GROUP BY user_id, request_id) e ON e.user_id = h.user_id AND e.request_id = h.request_id
WHERE r.leg_id IS NULL OR e.leg_id IS NOT NULL OR h.amount_uc <> r.held_uc;

SELECT r.leg_id, r.held_uc
FROM (SELECT leg_id, account_id, user_id, request_id, SUM(d_held_uc) AS held_uc, MIN(config_version) AS
  config_version
  FROM ledger_entries
  WHERE kind = 'reserve'
  GROUP BY leg_id, account_id, user_id, request_id) r
LEFT JOIN (SELECT user_id, request_id, MIN(leg_id) AS leg_id
  FROM ledger_entries
  WHERE kind IN ('settle', 'release', 'partial')
  GROUP BY user_id, request_id) e ON e.user_id = r.user_id AND e.request_id = r.request_id
LEFT JOIN holds h ON h.leg_id = r.leg_id
WHERE e.leg_id IS NULL AND h.leg_id IS NULL;

-- 5
SELECT user_id, request_id, COUNT(DISTINCT leg_id)
FROM ledger_entries
WHERE kind IN ('settle', 'release', 'partial')
GROUP BY user_id, request_id
HAVING COUNT(DISTINCT leg_id) > 1;

SELECT e.user_id, e.request_id
FROM (SELECT user_id, request_id, MIN(leg_id) AS leg_id
  FROM ledger_entries
  WHERE kind IN ('settle', 'release', 'partial')
  GROUP BY user_id, request_id) e
LEFT JOIN (SELECT leg_id, account_id, user_id, request_id, SUM(d_held_uc) AS held_uc, MIN(config_version) AS
  config_version
  FROM ledger_entries
  WHERE kind = 'reserve'
  GROUP BY leg_id, account_id, user_id, request_id) r ON r.user_id = e.user_id AND r.request_id = e.request_id
WHERE r.leg_id IS NULL;

SELECT r.leg_id, r.held_uc, e.ended_uc
FROM (SELECT leg_id, account_id, user_id, request_id, SUM(d_held_uc) AS held_uc, MIN(config_version) AS
  config_version
  FROM ledger_entries
  WHERE kind = 'reserve'
  GROUP BY leg_id, account_id, user_id, request_id) r
JOIN (SELECT user_id, request_id, -SUM(d_held_uc) AS ended_uc
  FROM ledger_entries
  WHERE kind IN ('settle', 'release', 'partial')
  GROUP BY user_id, request_id) e ON e.user_id = r.user_id AND e.request_id = r.request_id
WHERE r.held_uc <> e.ended_uc;

-- 6
SELECT user_id, request_id, COUNT(*)
FROM ledger_entries
WHERE kind IN ('reserve', 'library', 'defer', 'rate_limited', 'rejected') AND rule IS NOT NULL
GROUP BY user_id, request_id
HAVING COUNT(*) > 1;

-- 7
SELECT account_id, COUNT(*), MAX(seq)
FROM ledger_entries
GROUP BY account_id
HAVING COUNT(*) <> MAX(seq) OR MIN(seq) <> 1;

SELECT a.account_id, a.seq, COALESCE(e.seq, 0)
FROM accounts a
LEFT JOIN (SELECT account_id, MAX(seq) AS seq
  FROM ledger_entries
  GROUP BY account_id) e ON e.account_id = a.account_id
WHERE a.seq <> COALESCE(e.seq, 0);

-- 9
SELECT account_id, cycle_no
FROM (SELECT account_id, cycle_no, start_at, closed_at, LAG(end_at) OVER w AS ended_at, LAG(cycle_no) OVER w AS
  before_no, LAG(closed_at) OVER w AS closed_before, ROW_NUMBER() OVER w AS position
  FROM cycles
  WINDOW w AS (PARTITION BY account_id ORDER BY cycle_no)) c
WHERE (position = 1 AND cycle_no <> 0)
  OR (position > 1 AND (start_at <> ended_at OR cycle_no <> before_no + 1 OR closed_before IS NULL));

SELECT a.account_id, a.cycle_no
FROM accounts a
LEFT JOIN cycles c ON c.account_id = a.account_id AND c.cycle_no = a.cycle_no
WHERE c.cycle_no IS NULL OR c.closed_at IS NOT NULL OR c.start_at <> a.cycle_start_at OR c.end_at <> a.cycle_end_at;

-- 10
SELECT s.leg_id, s.config_version, r.config_version
FROM ledger_entries s
JOIN (SELECT leg_id, account_id, user_id, request_id, SUM(d_held_uc) AS held_uc, MIN(config_version) AS
  config_version
  FROM ledger_entries
  WHERE kind = 'reserve'
  GROUP BY leg_id, account_id, user_id, request_id) r ON r.user_id = s.user_id AND r.request_id = s.request_id
WHERE s.kind = 'settle' AND (s.config_version IS NULL OR s.config_version <> r.config_version);

-- 11
SELECT h.leg_id, h.expires_at
FROM holds h
JOIN deployment d ON d.key = 'last_sweep_at'
JOIN ledger_entries r ON r.leg_id = h.leg_id AND r.line = 1
WHERE h.expires_at + 60000000 < CAST(d.value AS BIGINT) AND r.recorded_at < CAST(d.value AS BIGINT);

-- 12
SELECT account_id, seq
FROM (SELECT account_id, seq, recorded_at, LAG(recorded_at) OVER (PARTITION BY account_id ORDER BY seq) AS before_at
  FROM ledger_entries) r
WHERE recorded_at < before_at;

-- 13
SELECT granted_uc, accounted_uc
FROM (SELECT COALESCE(SUM(CASE
      WHEN kind IN ('grant', 'adjust', 'refund') THEN d_avail_uc
      ELSE 0 END), 0) AS granted_uc, COALESCE(SUM(CASE
      WHEN kind IN ('settle', 'import', 'expire', 'clamp') THEN -(d_avail_uc + d_held_uc)
      ELSE 0 END), 0) + (SELECT COALESCE(SUM(avail_uc + held_uc), 0)
    FROM accounts) AS accounted_uc
  FROM ledger_entries) t
WHERE granted_uc <> accounted_uc;
