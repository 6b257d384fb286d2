"""Figures from results: gnuplot scripts, written beside the SVG and PNG they make, so that
anyone can change a label and draw again.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; point shapes say the
same once more.
"""
import os
import subprocess

SERIES = [('#0072B2', 7), ('#E69F00', 5), ('#009E73', 9), ('#CC79A7', 6)]  # colour, point
LINES = {  # strategy: (colour, dash)
    'callbacks': ('#0072B2', 1), 'coroutines': ('#E69F00', 1),
    'threadpool': ('#009E73', 1), 'freeze-thaw': ('#CC79A7', 1)}

STYLE = '''\
set encoding utf8
set border 3 lw 1 lc rgb "#555555"
set tics nomirror out scale 0.6 textcolor rgb "#333333"
set grid lc rgb "#dddddd" lw 1
'''


def quoted(text):
    return '"' + text.replace('\\', '').replace('"', "'").replace('_', '\\\\_') + '"'


def draw(directory, name, size, body):
    """Writes NAME.gp and runs it for SVG and PNG. size: (width, height) in pixels."""
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, name + '.gp')
    width, height = size
    with open(path, 'w', encoding='utf-8') as f:
        for kind, terminal in (
                ('svg', f'svg size {width},{height} font "Helvetica,14" background rgb "white"'
                        ' enhanced'),
                ('png', f'pngcairo size {width * 3 // 2},{height * 3 // 2} font "Sans,14"'
                        ' fontscale 1.05 background rgb "white" enhanced lw 1.5')):
            f.write(f'set terminal {terminal}\nset output "{name}.{kind}"\n{STYLE}{body}\n'
                    'unset output\nreset\n')
    subprocess.run(['gnuplot', name + '.gp'], cwd=directory, check=True,
                   stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return [os.path.join(directory, f'{name}.{kind}') for kind in ('svg', 'png')]


def axis_top(cells):
    """Where the axis ends: at the highest value, unless up to four are more than 2.5 times as high
    as all the others, which would squeeze those into a corner."""
    values = sorted((high for _, _, high in cells.values()), reverse=True)
    for few in (4, 3, 2, 1):
        if few < len(values) and values[few - 1] > 2.5 * values[few]:
            return values[few]
    return values[0]


def iops(directory, panels, subjects, series, note):
    """panels: [(title, {(subject, serie): (mean, low, high)})]; subjects, top to bottom. Points
    beyond the axis are told in words at its end."""
    rows = (len(panels) + 1) // 2
    out = [f'set multiplot layout {rows},2 margins 0.145,0.985,0.17,0.955 spacing 0.165,0.13',
           'unset key', f'set yrange [-0.6:{len(subjects) - 0.4}]', 'set grid xtics noytics',
           'set bars 0.6']
    ticks = ', '.join(f'{quoted(s)} {len(subjects) - 1 - i}' for i, s in enumerate(subjects))
    out.append(f'set ytics ({ticks})')
    styles = [SERIES[i % len(SERIES)] for i in range(len(series))]
    for number, (title, cells) in enumerate(panels):
        top = axis_top(cells) / 1e3
        out.append('unset label')
        out.append('unset arrow')
        for i in range(len(subjects) - 1):
            out.append(f'set arrow from graph 0,first {i + 0.5} to graph 1,first {i + 0.5} nohead '
                       'lw 0.6 lc rgb "#e8e8e8" back')
        out.append(f'set title {quoted(title)} font ",15" offset 0,-0.4')
        out.append('set xlabel "thousand requests a second" offset 0,0.4' if number >= len(panels) - 2
                   else 'unset xlabel')
        out.append(f'set xrange [0:{top * 1.08:.6g}]')
        parts, blocks = [], []
        for index, (one, (colour, point)) in enumerate(zip(series, styles)):
            lines = []
            for i, subject in enumerate(subjects):
                if index == 0 and not any((subject, e) in cells for e in series):
                    out.append(f'set label "not run" at graph 0.02,first {len(subjects) - 1 - i} '
                               'font ",11" textcolor rgb "#999999"')
                if (subject, one) in cells:
                    mean, low, high = (v / 1e3 for v in cells[subject, one])
                    at = len(subjects) - 1 - i + ((len(series) - 1) / 2 - index) * 0.66 / len(series)
                    if mean > top * 1.05:
                        out.append(f'set label {quoted(f"{mean:.0f} {chr(0x2192)}")} at graph '
                                   f'{0.99 - (len(series) - 1 - index) * 0.125:.3f},first {len(subjects) - 1 - i} '
                                   f'right font ",11" textcolor rgb '
                                   f'"{colour}"')
                        continue
                    lines.append(f'{mean:.6g} {at:.3f} {low:.6g} {high:.6g}')
            if lines:
                block = f'$p{number}_{index}'
                blocks.append(f'{block} << EOD\n' + '\n'.join(lines) + '\nEOD')
                parts.append(f'{block} using 1:2:3:4 with xerrorbars lw 1.6 pt {point} '
                             f'ps 0.8 lc rgb "{colour}" title {quoted(one)}')
        if parts:
            out += blocks + ['plot ' + ', \\\n  '.join(parts)]
        else:
            out.append('set multiplot next')
    # A legend for all panels, and the note, in a panel of its own at the bottom.
    out += ['unset title', 'unset xlabel', 'unset tics', 'unset border', 'unset grid', 'unset arrow',
            'unset label',
            'set lmargin at screen 0', 'set rmargin at screen 1', 'set bmargin at screen 0',
            'set tmargin at screen 0.1', 'set xrange [0:1]', 'set yrange [0:1]',
            'set key at screen 0.5,0.065 center horizontal samplen 1.5 font ",14"',
            f'set label {quoted(note)} at screen 0.5,0.022 center font ",11" '
            'textcolor rgb "#555555"',
            'plot ' + ', '.join(f'NaN with points pt {p} ps 1.1 lc rgb "{c}" '
                                f'title {quoted(e)}' for e, (c, p) in zip(series, styles)), 'unset multiplot']
    return draw(directory, 'iops', (1000, 330 * rows + 60), '\n'.join(out))


def tail(directory, name, title, panels, ylabel, note):
    """Latency over rarity: x is one in how many requests are slower, so that each step is
    another nine. panels: [(title, {strategy: [(percentile, microseconds)]})]."""
    panels = [(t, {s: [p for p in points if p[0] >= 50] for s, points in c.items()})
              for t, c in panels if any(c.values())]
    if not panels:
        return []
    values = [us for _, curves in panels for points in curves.values() for _, us in points]
    low, high = max(min(values), 0.1), max(values)
    n = len(panels)
    rarest = 1000 if max(p for _, c in panels for points in c.values() for p, _ in points) <= 99.9 else 10000
    out = [f'set multiplot layout 1,{n} margins 0.08,0.97,0.27,0.84 spacing 0.03,0',
           f'set label 100 {quoted(title)} at screen 0.5,0.955 center font ",16"',
           'set logscale xy', f'set xrange [2:{rarest}]', f'set yrange [{low * 0.8:.6g}:{high * 1.3:.6g}]',
           'set xtics ("50" 2, "90" 10, "99" 100, "99.9" 1000'
           + (', "99.99" 10000)' if rarest > 1000 else ')'),
           'set format y "%g"', 'unset key', 'set xlabel "percentile" offset 0,0.3']
    for number, (panel, curves) in enumerate(panels):
        out.append(f'set title {quoted(panel)} font ",14" offset 0,-0.5')
        if number == 0:
            out.append(f'set ylabel {quoted(ylabel)} offset 0.5,0')
        else:
            out += ['unset ylabel', 'set format y ""', 'unset label 100']
        blocks, parts = [], []
        for index, (strategy, points) in enumerate(curves.items()):
            colour, dash = LINES.get(strategy, ('#555555', 2))
            lines = [f'{1 / max(1 - p / 100, 1e-5):.6g} {us:.6g}' for p, us in sorted(points)]
            block = f'$q{number}_{index}'
            blocks.append(f'{block} << EOD\n' + '\n'.join(lines) + '\nEOD')
            parts.append(f'{block} using 1:2 with linespoints lw 2 dt {dash} pt {(7, 5, 9, 13, 1)[index % 5]} '
                         f'ps 0.55 lc rgb "{colour}" title {quoted(strategy)}')
        out += blocks + ['plot ' + ', \\\n  '.join(parts)]
    names = list(dict.fromkeys(s for _, curves in panels for s in curves))
    out += ['unset title', 'unset xlabel', 'unset ylabel', 'unset tics', 'unset border',
            'unset grid', 'unset logscale', 'set lmargin at screen 0', 'set rmargin at screen 1',
            'set bmargin at screen 0', 'set tmargin at screen 0.15', 'set xrange [0:1]',
            'set yrange [0:1]', 'set key at screen 0.5,0.1 center horizontal samplen 2 font ",14"',
            f'set label 101 {quoted(note)} at screen 0.5,0.035 center font ",11" '
            'textcolor rgb "#555555"',
            'plot ' + ', '.join(
                f'NaN with linespoints lw 2 pt {(7, 5, 9, 13, 1)[i % 5]} ps 0.9 '
                f'lc rgb "{LINES.get(s, ("#555555", 2))[0]}" title {quoted(s)}'
                for i, s in enumerate(names)), 'unset multiplot']
    return draw(directory, name, (1000, 440), '\n'.join(out))
