"""Train a trie: learners, schedules, cohorts, and what memory allows."""
