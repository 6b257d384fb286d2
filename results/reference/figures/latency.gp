set terminal svg size 1000,440 font "Helvetica,14" background rgb "white" enhanced
set output "latency.svg"
set encoding utf8
set border 3 lw 1 lc rgb "#555555"
set tics nomirror out scale 0.6 textcolor rgb "#333333"
set grid lc rgb "#dddddd" lw 1
set multiplot layout 1,4 margins 0.08,0.97,0.27,0.84 spacing 0.03,0
set label 100 "Latency, mixed reads and writes with flushes" at screen 0.5,0.955 center font ",16"
set logscale xy
set xrange [2:1000]
set yrange [797.767:23170.1]
set xtics ("50" 2, "90" 10, "99" 100, "99.9" 1000)
set format y "%g"
unset key
set xlabel "percentile" offset 0,0.3
set title "io\\_uring" font ",14" offset 0,-0.5
set ylabel "latency, µs" offset 0.5,0
$q0_0 << EOD
2 1123.58
4 2298.13
10 3335.17
20 3801.03
100 5477.73
200 7024.72
EOD
$q0_1 << EOD
2 1001.45
4 2161.35
10 3027.42
20 3389.06
100 4850.99
200 5516.99
EOD
$q0_2 << EOD
2 1099.63
4 2513.4
10 3235.97
20 3659.56
100 4703.14
200 5372.66
EOD
$q0_3 << EOD
2 1683.36
4 3359.76
10 4770.03
20 6086.9
100 16742.8
200 17823.1
EOD
plot $q0_0 using 1:2 with linespoints lw 2 dt 1 pt 7 ps 0.55 lc rgb "#0072B2" title "callbacks", \
  $q0_1 using 1:2 with linespoints lw 2 dt 1 pt 5 ps 0.55 lc rgb "#E69F00" title "coroutines", \
  $q0_2 using 1:2 with linespoints lw 2 dt 1 pt 9 ps 0.55 lc rgb "#009E73" title "threadpool", \
  $q0_3 using 1:2 with linespoints lw 2 dt 1 pt 13 ps 0.55 lc rgb "#CC79A7" title "freeze-thaw"
set title "linux-aio" font ",14" offset 0,-0.5
unset ylabel
set format y ""
unset label 100
$q1_0 << EOD
2 1174.45
4 2666.83
10 3548.73
20 4077.59
100 7292.12
200 14924.2
EOD
$q1_1 << EOD
2 1195.82
4 2684.07
10 3605.22
20 4014.97
100 5541.01
200 6403.75
EOD
$q1_2 << EOD
2 997.209
4 2268.52
10 3009.6
20 3418.4
100 10441.2
200 11916.6
EOD
$q1_3 << EOD
2 1865.72
4 3484.86
10 4886.37
20 5786.41
100 7867.83
200 9098.81
EOD
plot $q1_0 using 1:2 with linespoints lw 2 dt 1 pt 7 ps 0.55 lc rgb "#0072B2" title "callbacks", \
  $q1_1 using 1:2 with linespoints lw 2 dt 1 pt 5 ps 0.55 lc rgb "#E69F00" title "coroutines", \
  $q1_2 using 1:2 with linespoints lw 2 dt 1 pt 9 ps 0.55 lc rgb "#009E73" title "threadpool", \
  $q1_3 using 1:2 with linespoints lw 2 dt 1 pt 13 ps 0.55 lc rgb "#CC79A7" title "freeze-thaw"
set title "threads" font ",14" offset 0,-0.5
unset ylabel
set format y ""
unset label 100
$q2_0 << EOD
2 1325.93
4 2448.83
10 3846.06
20 4495.79
100 6621.33
200 8808.76
EOD
$q2_1 << EOD
2 1137.16
4 2054.07
10 3082.67
20 3603.91
100 5132.65
200 11772.7
EOD
$q2_2 << EOD
2 997.35
4 2269.52
10 3019.92
20 3388.42
100 4621.6
200 5840.6
EOD
$q2_3 << EOD
2 1812.49
4 3788.37
10 5396.15
20 6370.22
100 7885.82
200 8335.84
EOD
plot $q2_0 using 1:2 with linespoints lw 2 dt 1 pt 7 ps 0.55 lc rgb "#0072B2" title "callbacks", \
  $q2_1 using 1:2 with linespoints lw 2 dt 1 pt 5 ps 0.55 lc rgb "#E69F00" title "coroutines", \
  $q2_2 using 1:2 with linespoints lw 2 dt 1 pt 9 ps 0.55 lc rgb "#009E73" title "threadpool", \
  $q2_3 using 1:2 with linespoints lw 2 dt 1 pt 13 ps 0.55 lc rgb "#CC79A7" title "freeze-thaw"
set title "io\\_uring, 1 CPU" font ",14" offset 0,-0.5
unset ylabel
set format y ""
unset label 100
$q3_0 << EOD
2 1117.21
4 2335.03
10 3401.27
20 3841.43
100 6623.62
200 7450.52
EOD
$q3_1 << EOD
2 1123.6
4 2317.4
10 3301.19
20 3779.44
100 4741.98
200 5642.44
EOD
$q3_2 << EOD
2 1080.85
4 2356.94
10 3215.99
20 3654.28
100 9909.45
200 11311.1
EOD
$q3_3 << EOD
2 1808.47
4 3844.27
10 5402.49
20 6417.16
100 8826.14
200 9512.68
EOD
plot $q3_0 using 1:2 with linespoints lw 2 dt 1 pt 7 ps 0.55 lc rgb "#0072B2" title "callbacks", \
  $q3_1 using 1:2 with linespoints lw 2 dt 1 pt 5 ps 0.55 lc rgb "#E69F00" title "coroutines", \
  $q3_2 using 1:2 with linespoints lw 2 dt 1 pt 9 ps 0.55 lc rgb "#009E73" title "threadpool", \
  $q3_3 using 1:2 with linespoints lw 2 dt 1 pt 13 ps 0.55 lc rgb "#CC79A7" title "freeze-thaw"
unset title
unset xlabel
unset ylabel
unset tics
unset border
unset grid
unset logscale
set lmargin at screen 0
set rmargin at screen 1
set bmargin at screen 0
set tmargin at screen 0.15
set xrange [0:1]
set yrange [0:1]
set key at screen 0.5,0.1 center horizontal samplen 2 font ",14"
set label 101 "x: per cent of requests (turns) that take at most so long; mean of 4 trials" at screen 0.5,0.035 center font ",11" textcolor rgb "#555555"
plot NaN with linespoints lw 2 pt 7 ps 0.9 lc rgb "#0072B2" title "callbacks", NaN with linespoints lw 2 pt 5 ps 0.9 lc rgb "#E69F00" title "coroutines", NaN with linespoints lw 2 pt 9 ps 0.9 lc rgb "#009E73" title "threadpool", NaN with linespoints lw 2 pt 13 ps 0.9 lc rgb "#CC79A7" title "freeze-thaw"
unset multiplot
unset output
reset
set terminal pngcairo size 1500,660 font "Sans,14" fontscale 1.05 background rgb "white" enhanced lw 1.5
set output "latency.png"
set encoding utf8
set border 3 lw 1 lc rgb "#555555"
set tics nomirror out scale 0.6 textcolor rgb "#333333"
set grid lc rgb "#dddddd" lw 1
set multiplot layout 1,4 margins 0.08,0.97,0.27,0.84 spacing 0.03,0
set label 100 "Latency, mixed reads and writes with flushes" at screen 0.5,0.955 center font ",16"
set logscale xy
set xrange [2:1000]
set yrange [797.767:23170.1]
set xtics ("50" 2, "90" 10, "99" 100, "99.9" 1000)
set format y "%g"
unset key
set xlabel "percentile" offset 0,0.3
set title "io\\_uring" font ",14" offset 0,-0.5
set ylabel "latency, µs" offset 0.5,0
$q0_0 << EOD
2 1123.58
4 2298.13
10 3335.17
20 3801.03
100 5477.73
200 7024.72
EOD
$q0_1 << EOD
2 1001.45
4 2161.35
10 3027.42
20 3389.06
100 4850.99
200 5516.99
EOD
$q0_2 << EOD
2 1099.63
4 2513.4
10 3235.97
20 3659.56
100 4703.14
200 5372.66
EOD
$q0_3 << EOD
2 1683.36
4 3359.76
10 4770.03
20 6086.9
100 16742.8
200 17823.1
EOD
plot $q0_0 using 1:2 with linespoints lw 2 dt 1 pt 7 ps 0.55 lc rgb "#0072B2" title "callbacks", \
  $q0_1 using 1:2 with linespoints lw 2 dt 1 pt 5 ps 0.55 lc rgb "#E69F00" title "coroutines", \
  $q0_2 using 1:2 with linespoints lw 2 dt 1 pt 9 ps 0.55 lc rgb "#009E73" title "threadpool", \
  $q0_3 using 1:2 with linespoints lw 2 dt 1 pt 13 ps 0.55 lc rgb "#CC79A7" title "freeze-thaw"
set title "linux-aio" font ",14" offset 0,-0.5
unset ylabel
set format y ""
unset label 100
$q1_0 << EOD
2 1174.45
4 2666.83
10 3548.73
20 4077.59
100 7292.12
200 14924.2
EOD
$q1_1 << EOD
2 1195.82
4 2684.07
10 3605.22
20 4014.97
100 5541.01
200 6403.75
EOD
$q1_2 << EOD
2 997.209
4 2268.52
10 3009.6
20 3418.4
100 10441.2
200 11916.6
EOD
$q1_3 << EOD
2 1865.72
4 3484.86
10 4886.37
20 5786.41
100 7867.83
200 9098.81
EOD
plot $q1_0 using 1:2 with linespoints lw 2 dt 1 pt 7 ps 0.55 lc rgb "#0072B2" title "callbacks", \
  $q1_1 using 1:2 with linespoints lw 2 dt 1 pt 5 ps 0.55 lc rgb "#E69F00" title "coroutines", \
  $q1_2 using 1:2 with linespoints lw 2 dt 1 pt 9 ps 0.55 lc rgb "#009E73" title "threadpool", \
  $q1_3 using 1:2 with linespoints lw 2 dt 1 pt 13 ps 0.55 lc rgb "#CC79A7" title "freeze-thaw"
set title "threads" font ",14" offset 0,-0.5
unset ylabel
set format y ""
unset label 100
$q2_0 << EOD
2 1325.93
4 2448.83
10 3846.06
20 4495.79
100 6621.33
200 8808.76
EOD
$q2_1 << EOD
2 1137.16
4 2054.07
10 3082.67
20 3603.91
100 5132.65
200 11772.7
EOD
$q2_2 << EOD
2 997.35
4 2269.52
10 3019.92
20 3388.42
100 4621.6
200 5840.6
EOD
$q2_3 << EOD
2 1812.49
4 3788.37
10 5396.15
20 6370.22
100 7885.82
200 8335.84
EOD
plot $q2_0 using 1:2 with linespoints lw 2 dt 1 pt 7 ps 0.55 lc rgb "#0072B2" title "callbacks", \
  $q2_1 using 1:2 with linespoints lw 2 dt 1 pt 5 ps 0.55 lc rgb "#E69F00" title "coroutines", \
  $q2_2 using 1:2 with linespoints lw 2 dt 1 pt 9 ps 0.55 lc rgb "#009E73" title "threadpool", \
  $q2_3 using 1:2 with linespoints lw 2 dt 1 pt 13 ps 0.55 lc rgb "#CC79A7" title "freeze-thaw"
set title "io\\_uring, 1 CPU" font ",14" offset 0,-0.5
unset ylabel
set format y ""
unset label 100
$q3_0 << EOD
2 1117.21
4 2335.03
10 3401.27
20 3841.43
100 6623.62
200 7450.52
EOD
$q3_1 << EOD
2 1123.6
4 2317.4
10 3301.19
20 3779.44
100 4741.98
200 5642.44
EOD
$q3_2 << EOD
2 1080.85
4 2356.94
10 3215.99
20 3654.28
100 9909.45
200 11311.1
EOD
$q3_3 << EOD
2 1808.47
4 3844.27
10 5402.49
20 6417.16
100 8826.14
200 9512.68
EOD
plot $q3_0 using 1:2 with linespoints lw 2 dt 1 pt 7 ps 0.55 lc rgb "#0072B2" title "callbacks", \
  $q3_1 using 1:2 with linespoints lw 2 dt 1 pt 5 ps 0.55 lc rgb "#E69F00" title "coroutines", \
  $q3_2 using 1:2 with linespoints lw 2 dt 1 pt 9 ps 0.55 lc rgb "#009E73" title "threadpool", \
  $q3_3 using 1:2 with linespoints lw 2 dt 1 pt 13 ps 0.55 lc rgb "#CC79A7" title "freeze-thaw"
unset title
unset xlabel
unset ylabel
unset tics
unset border
unset grid
unset logscale
set lmargin at screen 0
set rmargin at screen 1
set bmargin at screen 0
set tmargin at screen 0.15
set xrange [0:1]
set yrange [0:1]
set key at screen 0.5,0.1 center horizontal samplen 2 font ",14"
set label 101 "x: per cent of requests (turns) that take at most so long; mean of 4 trials" at screen 0.5,0.035 center font ",11" textcolor rgb "#555555"
plot NaN with linespoints lw 2 pt 7 ps 0.9 lc rgb "#0072B2" title "callbacks", NaN with linespoints lw 2 pt 5 ps 0.9 lc rgb "#E69F00" title "coroutines", NaN with linespoints lw 2 pt 9 ps 0.9 lc rgb "#009E73" title "threadpool", NaN with linespoints lw 2 pt 13 ps 0.9 lc rgb "#CC79A7" title "freeze-thaw"
unset multiplot
unset output
reset
