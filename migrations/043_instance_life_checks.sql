-- no transaction
ALTER TABLE instance_logs VALIDATE CONSTRAINT instance_logs_state;
