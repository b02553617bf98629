-- The same on copies of the ledger's own tables: its columns, indexes and checks, but no foreign keys and no triggers.
CREATE TABLE bench_own_accounts (LIKE accounts INCLUDING ALL);
CREATE TABLE bench_own_entries (LIKE ledger_entries INCLUDING ALL);
CREATE TABLE bench_own_holds (LIKE holds INCLUDING ALL);
CREATE FUNCTION bench_own_fill(count integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO bench_own_accounts SELECT * FROM accounts ORDER BY account_id LIMIT count;
    UPDATE bench_own_accounts SET avail_uc = 1000000000000
$$;
CREATE FUNCTION bench_own_reserve(of_user text, new_leg text, amount_uc bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE number bigint; moment bigint := extract(epoch FROM clock_timestamp()) * 1000000;
BEGIN
    UPDATE bench_own_accounts SET avail_uc = avail_uc - amount_uc, held_uc = held_uc + amount_uc, seq = seq + 1
    WHERE account_id = 'user:' || of_user AND avail_uc >= amount_uc RETURNING seq INTO number;
    IF NOT FOUND THEN RETURN false; END IF;
    INSERT INTO bench_own_entries (account_id, seq, leg_id, line, user_id, request_id, occurred_at, recorded_at, kind,
        d_avail_uc, d_held_uc, plan, region, prev_hash, hash)
    VALUES ('user:' || of_user, number, new_leg, 1, of_user, new_leg, moment, moment, 'reserve',
        -amount_uc, amount_uc, 'premium', 'global', '', '');
    INSERT INTO bench_own_holds (leg_id, account_id, user_id, request_id, amount_uc, reserved_at, expires_at)
    VALUES (new_leg, 'user:' || of_user, of_user, new_leg, amount_uc, moment, moment + 900000000);
    RETURN true;
END $$;
CREATE FUNCTION bench_own_settle(of_leg text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE number bigint; whose text; who text; reserved bigint; moment bigint := extract(epoch FROM clock_timestamp()) * 1000000;
BEGIN
    DELETE FROM bench_own_holds WHERE leg_id = of_leg RETURNING account_id, user_id, amount_uc INTO whose, who, reserved;
    IF NOT FOUND THEN RETURN false; END IF;
    UPDATE bench_own_accounts SET held_uc = held_uc - reserved, seq = seq + 1 WHERE account_id = whose RETURNING seq INTO number;
    INSERT INTO bench_own_entries (account_id, seq, leg_id, line, user_id, request_id, occurred_at, recorded_at, kind,
        d_avail_uc, d_held_uc, plan, region, prev_hash, hash)
    VALUES (whose, number, 'end-' || of_leg, 1, who, of_leg, moment, moment, 'settle', 0, -reserved, 'premium', 'global', '', '');
    RETURN true;
END $$;
