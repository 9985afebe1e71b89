import pytest

# Its assertions are to say what differs, as those of tests do.
pytest.register_assert_rewrite("tests.service.fold.exactly_once")
