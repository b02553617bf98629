-- A two-phase transfer with nothing but balances, entries and holds.
CREATE TABLE bench_lean_accounts (
    id text PRIMARY KEY, avail bigint NOT NULL CHECK (avail >= 0), held bigint NOT NULL CHECK (held >= 0), seq bigint NOT NULL
);
CREATE TABLE bench_lean_entries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account text NOT NULL, seq bigint NOT NULL, leg text NOT NULL UNIQUE,
    kind text NOT NULL, at timestamptz NOT NULL DEFAULT now(), d_avail bigint NOT NULL, d_held bigint NOT NULL,
    UNIQUE (account, seq)
);
CREATE TABLE bench_lean_holds (
    leg text PRIMARY KEY, account text NOT NULL, amount bigint NOT NULL, at timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION bench_lean_fill(count integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO bench_lean_accounts SELECT 'bench-' || n, 1000000000000, 0, 0 FROM generate_series(0, count - 1) n
$$;
CREATE FUNCTION bench_lean_reserve(of_user text, new_leg text, amount_uc bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE number bigint;
BEGIN
    UPDATE bench_lean_accounts SET avail = avail - amount_uc, held = held + amount_uc, seq = seq + 1
    WHERE id = of_user AND avail >= amount_uc RETURNING seq INTO number;
    IF NOT FOUND THEN RETURN false; END IF;
    INSERT INTO bench_lean_entries (account, seq, leg, kind, d_avail, d_held)
    VALUES (of_user, number, new_leg, 'reserve', -amount_uc, amount_uc);
    INSERT INTO bench_lean_holds (leg, account, amount) VALUES (new_leg, of_user, amount_uc);
    RETURN true;
END $$;
CREATE FUNCTION bench_lean_settle(of_leg text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE number bigint; whose text; reserved bigint;
BEGIN
    DELETE FROM bench_lean_holds WHERE leg = of_leg RETURNING account, amount INTO whose, reserved;
    IF NOT FOUND THEN RETURN false; END IF;
    UPDATE bench_lean_accounts SET held = held - reserved, seq = seq + 1 WHERE id = whose RETURNING seq INTO number;
    INSERT INTO bench_lean_entries (account, seq, leg, kind, d_avail, d_held)
    VALUES (whose, number, 'end-' || of_leg, 'settle', 0, -reserved);
    RETURN true;
END $$;
