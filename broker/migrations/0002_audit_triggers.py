"""The database itself refuses to change or delete an audit event."""

from django.db import migrations

from broker.audit import triggers


class Migration(migrations.Migration):
    dependencies = [("broker", "0001_initial")]
    operations = [migrations.RunPython(triggers.install, triggers.remove)]
