"""codecost.py sees that folders differ, and where; and what it counts is what is there."""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent.parent


class Costs(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.tree = pathlib.Path(self.scratch.name)
        for part in ('strategies', 'core/coroutine'):
            shutil.copytree(TOP / part, self.tree / part)

    def run_script(self, *args):
        return subprocess.run([sys.executable, TOP / 'scripts/codecost.py', *args, self.tree],
                              capture_output=True, text=True, check=False)

    def differs(self):
        run = self.run_script()
        self.assertEqual(run.returncode, 1, run.stdout)
        return run.stderr

    def costs(self, name):
        run = self.run_script('--output-format=json')
        self.assertEqual(run.returncode, 0, run.stderr)
        return next(s for s in json.loads(run.stdout)['strategies'] if s['name'] == name)

    def edit(self, name, old, new):
        path = self.tree / 'strategies' / name
        text = path.read_text(encoding='utf-8')
        self.assertIn(old, text)
        path.write_text(text.replace(old, new, 1), encoding='utf-8')

    def append(self, name, text):
        with open(self.tree / 'strategies' / name, 'a', encoding='utf-8') as f:
            f.write(text)

    # --- alike

    def test_as_it_is(self):
        run = self.run_script()
        self.assertEqual(run.returncode, 0, run.stderr)
        for word in ('callbacks', 'coroutines with core/coroutine', 'points', 'common',
                     'coroutines without its own', 'coroutines: fastpath.c, locks.c'):
            self.assertIn(word, run.stdout)

    def test_own_files_are_left_out(self):
        costs = self.costs('coroutines')
        self.assertEqual(self.costs('callbacks')['without_own']['lines'],
                         self.costs('callbacks')['lines'])
        self.append('coroutines/locks.c', '\nstatic int locks(void)\n{\n    return 0;\n}\n')
        self.assertEqual(self.costs('coroutines')['lines'], costs['lines'] + 4)
        self.assertEqual(self.costs('coroutines')['without_own'], costs['without_own'])

    def test_a_file_more(self):
        (self.tree / 'strategies/threadpool/extra.c').write_text('', encoding='utf-8')
        self.assertIn('threadpool: extra.c', self.differs())

    def test_a_file_less(self):
        (self.tree / 'strategies/coroutines/flush.c').unlink()
        self.assertIn('coroutines: flush.c is missing', self.differs())

    def test_a_function_less(self):
        self.edit('coroutines/settle.c', 'void co_sleep(', 'static void sleep_here(')
        self.assertIn('coroutines/settle.c: lacks sleep', self.differs())

    def test_another_order(self):
        self.edit('freeze-thaw/flush.c', 'int ft_sync(', 'int ft_x(')
        self.edit('freeze-thaw/flush.c', 'int ft_close_sync(', 'int ft_sync(')
        self.edit('freeze-thaw/flush.c', 'int ft_x(', 'int ft_close_sync(')
        self.assertIn('freeze-thaw/flush.c: order differs', self.differs())

    # --- counting

    def test_a_function_is_counted(self):
        before = self.costs('callbacks')
        self.append('callbacks/flush.c', '''
/* not a line of code */

static int twice(int n)
{
    if (n > 0 && n < 9)
        return 2 * n;
    return 0;
}
''')
        after = self.costs('callbacks')
        self.assertEqual(after['lines'], before['lines'] + 6)
        self.assertEqual(after['functions'], before['functions'] + 1)
        self.assertEqual(after['complexity'], before['complexity'] + 3)
        self.assertEqual(after['points'], before['points'])

    def test_the_longest_and_the_worst(self):
        self.append('threadpool/flush.c',
                    'int long_one(int n)\n{\n' + '    if (n == 1)\n        n++;\n' * 60 +
                    '    return n;\n}\n')
        after = self.costs('threadpool')
        self.assertEqual(after['longest'], 60 * 2 + 4)
        self.assertEqual(after['complexity_max'], 61)

    def test_fields_are_counted_inside_too(self):
        before = self.costs('freeze-thaw')
        self.edit('freeze-thaw/model.h', 'struct ft_request {', '''struct ft_request {
    int one, *two; /* int three; */
    struct {
        ft_then *four[2];
        union {
            char five, six;
        };
        void (*seven)(int a, int b);
    } inner;''')
        after = self.costs('freeze-thaw')
        self.assertEqual(after['kept'], before['kept'] + 6)
        self.assertEqual(after['fields'], before['fields'] + 6)

    def test_points_are_calls_of_what_waits_and_of_its_callers(self):
        before = self.costs('coroutines')
        self.append('coroutines/flush.c', '''
static int waits(struct co_request *r)
{
    return co_transfer(r);
}

static int waits_twice(struct co_request *r)
{
    waits(r);
    return waits(r);
}

static int never(struct co_request *r)
{
    return r->result;
}
''')
        after = self.costs('coroutines')
        self.assertEqual(after['points'], before['points'] + 3)

    def test_a_runtime_is_that_which_is_included(self):
        coroutines, callbacks = self.costs('coroutines'), self.costs('callbacks')
        self.assertEqual(coroutines['runtime'], ['core/coroutine'])
        self.assertGreater(coroutines['with_runtime']['lines'], coroutines['lines'] + 300)
        self.assertEqual(callbacks['runtime'], [])
        self.assertEqual(callbacks['with_runtime']['lines'], callbacks['lines'])


if __name__ == '__main__':
    unittest.main()
