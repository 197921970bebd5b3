-- Scheduled sends.

-- Open emails that are scheduled, soonest first. Its condition names nothing that changes before the end, so that
-- SCHEDULED → SENDING touches no index; emails that are not scheduled are not in it.
CREATE INDEX email_send_log_scheduled ON email_send_log (send_at, id) WHERE ended_at IS NULL AND send_at IS NOT NULL;
