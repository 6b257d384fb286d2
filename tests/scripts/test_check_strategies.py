"""check_strategies.py sees that folders differ, and says where."""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent.parent


class Alike(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.tree = pathlib.Path(self.scratch.name, 'strategies')
        shutil.copytree(TOP / 'strategies', self.tree)

    def check(self):
        run = subprocess.run([sys.executable, TOP / 'scripts/check_strategies.py', self.tree],
                             capture_output=True, text=True, check=False)
        return run.returncode, run.stdout

    def edit(self, name, old, new):
        path = self.tree / name
        text = path.read_text(encoding='utf-8')
        self.assertIn(old, text)
        path.write_text(text.replace(old, new), encoding='utf-8')

    def test_as_it_is(self):
        self.assertEqual(self.check()[0], 0)

    def test_a_file_more(self):
        (self.tree / 'threadpool' / 'extra.c').write_text('', encoding='utf-8')
        status, text = self.check()
        self.assertEqual(status, 1)
        self.assertIn('threadpool: extra.c', text)

    def test_a_function_less(self):
        self.edit('coroutines/settle.c', 'void co_sleep(', 'static void sleep_here(')
        status, text = self.check()
        self.assertEqual(status, 1)
        self.assertIn('coroutines/settle.c: lacks sleep', text)

    def test_another_order(self):
        self.edit('freeze-thaw/flush.c', 'int ft_sync(', 'int ft_x(')
        self.edit('freeze-thaw/flush.c', 'int ft_close_sync(', 'int ft_sync(')
        self.edit('freeze-thaw/flush.c', 'int ft_x(', 'int ft_close_sync(')
        status, text = self.check()
        self.assertEqual(status, 1)
        self.assertIn('freeze-thaw/flush.c: order differs', text)


if __name__ == '__main__':
    unittest.main()
