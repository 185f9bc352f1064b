"""``python -m ingather.stack.migrate``: the catalog's schema, brought up to date as the settings say."""

from ingather.bootstrap import migrate
from ingather.settings import Settings

if __name__ == "__main__":
    migrate(Settings())
