-- Dead letters by what they have in common.

-- The error without what differs from one letter to the next: addresses, ids, long numbers and fractions. By a trigger, so that
-- services of the version before write it, too; no generated column, which would write the table anew.
ALTER TABLE email_dead_letters ADD COLUMN error_group text NOT NULL DEFAULT '';

CREATE FUNCTION email_dead_letters_grouped() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.error_group := left(
        regexp_replace(
            regexp_replace(NEW.error, '[^\s<>"'']+@[^\s<>"'',;]+|[0-9A-Fa-f]{8}-[0-9A-Fa-f-]{27}', '…', 'g'),
            '\d+\.\d+|\d{4,}', '#', 'g'
        ),
        200
    );
    RETURN NEW;
END
$$;

CREATE TRIGGER email_dead_letters_grouped BEFORE INSERT OR UPDATE OF error ON email_dead_letters
    FOR EACH ROW EXECUTE FUNCTION email_dead_letters_grouped();

-- For the letters that are there already; called by the next migration. Locked in the order of services, so not in a circle.
CREATE PROCEDURE email_dead_letters_group_old() LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        UPDATE email_dead_letters SET error = error WHERE id IN (
            SELECT id FROM email_dead_letters WHERE resolved_at IS NULL AND error_group = '' AND error <> ''
            ORDER BY id LIMIT 1000 FOR UPDATE
        );
        EXIT WHEN NOT FOUND;
        COMMIT;
    END LOOP;
END
$$;
