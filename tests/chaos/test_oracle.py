"""The oracle must be able to fail: planted histories, each with what is to be found in it."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from oracle import Fill, Invalidation, Read, judge  # noqa: E402

BOUND = 2.0


def read(begin, version, node="rust", key=0, end=None):
    return Read(node, begin, begin + 0.001 if end is None else end, key, version)


def written(version, accepted, issued=None, key=0):
    return Invalidation(key, version, accepted - 0.01 if issued is None else issued, accepted)


class Violations(unittest.TestCase):
    def found(self, reads, invalidations, pauses=()):
        return [v.read for v in judge(BOUND, reads, [], invalidations, pauses).violations]

    def test_a_stale_read_beyond_the_bound_is_found(self):
        late = read(12.1, 1)
        self.assertEqual(self.found([read(9, 1), read(11.9, 1), late], [written(2, 10)]), [late])

    def test_a_stale_read_within_the_bound_a_miss_and_a_newer_value_are_fine(self):
        self.assertEqual(self.found([read(12.0, 1), read(13, None), read(13, 2), read(13, 3)], [written(2, 10)]), [])

    def test_the_begin_of_a_read_counts_not_its_end(self):
        self.assertEqual(self.found([read(11.9, 1, end=19)], [written(2, 10)]), [])

    def test_a_read_sent_to_a_stopped_process_begins_when_it_goes_on(self):
        early = read(11.5, 1, end=15.1)
        pause = ("rust", 11, 15)
        self.assertEqual(len(self.found([early], [written(2, 10)], [pause])), 1)
        self.assertEqual(self.found([early._replace(node="node")], [written(2, 10)], [pause]), [])
        self.assertEqual(self.found([early._replace(begin=10.9)], [written(2, 10)], [pause]), [])

    def test_a_newer_version_accepted_first_counts_from_then(self):
        self.assertEqual(len(self.found([read(12.5, 2)], [written(3, 10), written(2, 11)])), 1)
        self.assertEqual(len(self.found([read(12.5, 2)], [written(3, 11), written(2, 10)])), 0)

    def test_what_nobody_saw_accepted_binds_nobody(self):
        self.assertEqual(self.found([read(100, 1)], [Invalidation(0, 2, 10, None)]), [])

    def test_keys_are_apart(self):
        self.assertEqual(self.found([read(100, 1, key=1)], [written(2, 10)]), [])

    def test_lateness_is_counted_from_the_first_newer_invalidation(self):
        late = judge(BOUND, [read(13, 1)], [], [written(2, 10), written(3, 12)]).violations[0]
        self.assertAlmostEqual(late.late, 1.0)
        self.assertEqual((late.required, late.accepted), (2, 10))


class Figures(unittest.TestCase):
    def test_staleness_is_the_last_older_read_after_acceptance(self):
        reads = [read(9, 1), read(10.2, 1), read(10.3, 2), read(10.1, 2, node="node")]
        found = judge(BOUND, reads, [], [written(2, 10)])
        self.assertEqual([round(s, 3) for s in sorted(found.staleness)], [0, 0.2])
        self.assertAlmostEqual(found.quantile(0.99), 0.2)
        self.assertEqual(found.quantile(0.5), 0)
        self.assertAlmostEqual(found.stalest["rust"], 0.2)
        self.assertEqual(found.stalest["node"], 0)

    def test_a_value_is_not_stale_to_its_own_invalidation(self):
        self.assertEqual(judge(BOUND, [read(11, 2)], [], [written(2, 10)]).staleness, [0.0])

    def lapsed(self, reads, invalidations, stored=True):
        return judge(BOUND, reads, [Fill("rust", 20, 20.01, 0, 1, stored)], invalidations).lapsed

    def test_a_miss_that_nobody_asked_for_is_a_lapse_once(self):
        self.assertEqual(self.lapsed([read(21, 1), read(22, None), read(22.1, None)], [written(1, 10)]), 1)

    def test_a_miss_after_an_invalidation_is_none(self):
        self.assertEqual(self.lapsed([read(22, None)], [written(2, 21)]), 0)
        self.assertEqual(self.lapsed([read(22, None)], [Invalidation(0, 2, 21, None)]), 0)

    def test_a_miss_soon_after_an_older_invalidation_is_none(self):
        self.assertEqual(self.lapsed([read(20.2, None)], [written(1, 19.9)]), 0)

    def test_a_value_that_was_not_stored_cannot_lapse(self):
        self.assertEqual(self.lapsed([read(22, None)], [], stored=False), 0)


if __name__ == "__main__":
    unittest.main()
