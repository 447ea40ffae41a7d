"""How often the crash test kills."""


def pytest_addoption(parser):
    parser.addoption("--crash-kills", type=int, default=20, help="kills in the crash test")
