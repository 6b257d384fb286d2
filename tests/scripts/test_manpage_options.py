#!/usr/bin/env python3
"""The man page names every long option that --help names, and none besides."""
import os
import re
import subprocess
import sys
import unittest

PROGRAM, PAGE = sys.argv[1:3]
OPTION = re.compile(r'(?<![\w-])--([a-z][\w+-]*)')


def norm(name):
    return name.rstrip('-').replace('_', '-')


def help_of(*command):
    done = subprocess.run([PROGRAM, *command, '--help'], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f'{command} --help: exit status {done.returncode}'
    assert done.stdout.strip(), f'{command} --help says nothing on standard output'
    return done.stdout


class ManPage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(PAGE, encoding='utf-8') as f:
            cls.page = f.read().replace('\\-', '-')
        cls.page = re.sub(r'\\f.', '', cls.page)
        img = re.findall(r'^  ([a-z]+)  ', help_of('img'), re.MULTILINE)
        assert img, 'img --help lists no commands'
        commands = [(), ('run',), ('strategies',), ('engines',), ('img',),
                    ('microbench',), ('microbench', 'coroutine'), ('microbench', 'engine'),
                    ('explore',),
                    *(('img', c) for c in img)]
        cls.help = {c: help_of(*c) for c in commands}
        cls.known = {norm(o) for text in cls.help.values() for o in OPTION.findall(text)}

    def documented(self):
        return {norm(o) for o in OPTION.findall(self.page)}

    def test_all_options_are_in_the_page(self):
        self.assertEqual(sorted(self.known - self.documented()), [])

    def test_page_has_no_other_options(self):
        self.assertEqual(sorted(self.documented() - self.known - {'version', 'help'}), [])

    def test_all_commands_are_in_the_page(self):
        for command in re.findall(r'^  ([a-z]+)  ', self.help[()], re.MULTILINE):
            self.assertTrue(command in self.page, f'no {command} in the page')
        for command in map(' '.join, self.help):
            self.assertTrue(command in self.page, f'no {command} in the page')

    def test_page_formats_without_complaint(self):
        if not os.path.exists('/usr/bin/man'):
            return  # the page's own markup is still compared above
        done = subprocess.run(['man', '--warnings', '-l', PAGE], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=20, check=False,
                              env=dict(os.environ, MANPAGER='cat', LC_ALL='C.UTF-8'))
        self.assertEqual(done.stderr, '')


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
