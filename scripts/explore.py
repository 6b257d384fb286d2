#!/usr/bin/env python3
"""Runs `asyncow explore` over all sets of operations, one strategy after the other, and
writes down how many schedules each set has under each: NAME.json and NAME.txt.

Fails if a schedule does. What else is given goes to `asyncow explore`.
"""
import argparse
import json
import os
import resource
import subprocess
import sys

import bench

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STRATEGIES = ['callbacks', 'coroutines', 'threadpool', 'freeze-thaw']
ENDS = {('all', 'complete'): '', ('2 pre-emptions', 'complete'): ' b'}


def explore(program, strategy, arguments):
    """The report, and the CPU seconds that took."""
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([program, 'explore', '--output-format=json', f'--strategy={strategy}', *arguments],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not done.stdout:
        sys.exit(f'{done.stderr}exit status {done.returncode}')
    return json.loads(done.stdout), ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime


def summary(strategy, sets, seconds):
    kinds = [ENDS.get((s['mode'], s['end']), ' c') for s in sets]
    return {'strategy': strategy, 'sets': len(sets), 'searched_through': kinds.count(''),
            'within_two_preemptions': kinds.count(' b'), 'cut': kinds.count(' c'),
            'schedules': sum(s['schedules'] for s in sets), 'cpu_seconds': round(seconds, 1)}


def table(sums, rows):
    lines = ['Schedules run of each set of operations: all that differ; "b": those with at most two',
             'pre-emptions, all that differ; "c": cut off at the budget.', '']
    for s in sums:
        lines.append(f'{s["strategy"]:12} {s["sets"]} sets: {s["searched_through"]} searched through, '
                     f'{s["within_two_preemptions"]} within two pre-emptions, {s["cut"]} cut; '
                     f'{s["schedules"]} schedules in {s["cpu_seconds"]} CPU seconds')
    lines += ['', f'{"":34}' + ''.join(f'{s["strategy"]:>15}' for s in sums)]
    for name, cells in rows.items():
        lines.append(f'{name:34}' + ''.join(f'{cells.get(s["strategy"], ""):>15}' for s in sums))
    return '\n'.join(line.rstrip() for line in lines) + '\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--program', required=True, help='asyncow')
    parser.add_argument('--output', required=True, help='directory')
    parser.add_argument('--name', default='explore', help='of the files')
    parser.add_argument('--strategy', default=','.join(STRATEGIES))
    options, arguments = parser.parse_known_args()
    sums, rows, sets, failed = [], {}, [], 0
    for strategy in options.strategy.split(','):
        report, seconds = explore(options.program, strategy, arguments)
        sums.append(summary(strategy, report['sets'], seconds))
        sets += report['sets']
        for s in report['sets']:
            text = f'{s["schedules"]}{ENDS.get((s["mode"], s["end"]), " c")}'
            if s['end'] in ('failed', 'error'):
                failed += 1
                text = 'FAILED'
                print(f'{strategy} {s["operations"]}: {s["failure"]}\n{s.get("script", "")}')
            rows.setdefault(s['operations'], {})[strategy] = text
        print(table(sums[-1:], {}).splitlines()[3], flush=True)
    os.makedirs(options.output, exist_ok=True)
    facts = bench.manifest(TOP, options.program, options.output, arguments=arguments)
    with open(f'{options.output}/{options.name}.json', 'w', encoding='utf-8') as f:
        f.write('{"manifest": ' + json.dumps(facts, indent=1) + ',\n"strategies": ' + json.dumps(sums, indent=1) +
                ',\n"sets": [\n' + ',\n'.join(json.dumps(s) for s in sets) + '\n]}\n')
    with open(f'{options.output}/{options.name}.txt', 'w', encoding='utf-8') as f:
        f.write(table(sums, rows))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
