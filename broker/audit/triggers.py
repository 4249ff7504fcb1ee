"""The database's own refusal to change the audit log.

The owner of a table can still drop a trigger: this stops mistakes and injected SQL, the hash chain shows the rest.
"""

from __future__ import annotations

from django.db.backends.base.schema import BaseDatabaseSchemaEditor

INSTALL = {
    "sqlite": [
        """CREATE TRIGGER audit_event_no_update BEFORE UPDATE ON broker_auditevent
           BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END""",
        """CREATE TRIGGER audit_event_no_delete BEFORE DELETE ON broker_auditevent
           BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END""",
        """CREATE TRIGGER audit_head_forward BEFORE UPDATE ON broker_audithead WHEN NEW.seq < OLD.seq
           BEGIN SELECT RAISE(ABORT, 'the audit head only moves forward'); END""",
        """CREATE TRIGGER audit_head_no_delete BEFORE DELETE ON broker_audithead
           BEGIN SELECT RAISE(ABORT, 'the audit head is never deleted'); END""",
    ],
    "postgresql": [
        """CREATE FUNCTION audit_event_refuse() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'audit events are append-only'; END $$""",
        """CREATE TRIGGER audit_event_no_change BEFORE UPDATE OR DELETE ON broker_auditevent
           FOR EACH ROW EXECUTE FUNCTION audit_event_refuse()""",
        """CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON broker_auditevent
           FOR EACH STATEMENT EXECUTE FUNCTION audit_event_refuse()""",
        """CREATE FUNCTION audit_head_refuse() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN
                IF TG_OP = 'UPDATE' AND NEW.seq >= OLD.seq THEN RETURN NEW; END IF;
                RAISE EXCEPTION 'the audit head only moves forward';
              END $$""",
        """CREATE TRIGGER audit_head_forward BEFORE UPDATE OR DELETE ON broker_audithead
           FOR EACH ROW EXECUTE FUNCTION audit_head_refuse()""",
        """CREATE TRIGGER audit_head_no_truncate BEFORE TRUNCATE ON broker_audithead
           FOR EACH STATEMENT EXECUTE FUNCTION audit_head_refuse()""",
    ],
}

REMOVE = {
    "sqlite": [
        "DROP TRIGGER IF EXISTS audit_event_no_update",
        "DROP TRIGGER IF EXISTS audit_event_no_delete",
        "DROP TRIGGER IF EXISTS audit_head_forward",
        "DROP TRIGGER IF EXISTS audit_head_no_delete",
    ],
    "postgresql": [
        "DROP TRIGGER IF EXISTS audit_event_no_change ON broker_auditevent",
        "DROP TRIGGER IF EXISTS audit_event_no_truncate ON broker_auditevent",
        "DROP FUNCTION IF EXISTS audit_event_refuse",
        "DROP TRIGGER IF EXISTS audit_head_forward ON broker_audithead",
        "DROP TRIGGER IF EXISTS audit_head_no_truncate ON broker_audithead",
        "DROP FUNCTION IF EXISTS audit_head_refuse",
    ],
}


def install(apps: object, editor: BaseDatabaseSchemaEditor) -> None:
    for statement in INSTALL[editor.connection.vendor]:
        editor.execute(statement)


def remove(apps: object, editor: BaseDatabaseSchemaEditor) -> None:
    for statement in REMOVE[editor.connection.vendor]:
        editor.execute(statement)
