from corpus_for_tests import corpus, one_thread  # noqa: F401 - fixtures
