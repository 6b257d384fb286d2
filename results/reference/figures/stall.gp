set terminal svg size 1000,440 font "Helvetica,14" background rgb "white" enhanced
set output "stall.svg"
set encoding utf8
set border 3 lw 1 lc rgb "#555555"
set tics nomirror out scale 0.6 textcolor rgb "#333333"
set grid lc rgb "#dddddd" lw 1
set multiplot layout 1,4 margins 0.08,0.97,0.27,0.84 spacing 0.03,0
set label 100 "Stall: how long one turn of the loop takes, same workload" at screen 0.5,0.955 center font ",16"
set logscale xy
set xrange [2:1000]
set yrange [0.729194:487.258]
set xtics ("50" 2, "90" 10, "99" 100, "99.9" 1000)
set format y "%g"
unset key
set xlabel "percentile" offset 0,0.3
set title "io\\_uring" font ",14" offset 0,-0.5
set ylabel "turn, µs" offset 0.5,0
$q0_0 << EOD
2 3.49184
4 22.3287
10 45.1984
20 60.9843
100 108.954
EOD
$q0_1 << EOD
2 3.17354
4 20.3694
10 35.9351
20 49.5671
100 84.6641
EOD
$q0_2 << EOD
2 1.08009
4 4.11144
10 8.33625
20 14.9478
100 44.7895
EOD
$q0_3 << EOD
2 1.35872
4 3.24597
10 20.7534
20 34.3566
100 66.7761
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
2 150.98
4 196.325
10 254.547
20 305.518
EOD
$q1_1 << EOD
2 167.417
4 218.416
10 279.929
20 337.125
EOD
$q1_2 << EOD
2 0.911492
4 4.33094
10 10.1702
20 16.796
100 58.0663
EOD
$q1_3 << EOD
2 20.4105
4 36.3501
10 165.48
20 241.979
100 374.814
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
2 3.53019
4 9.34518
10 23.4775
20 35.2026
100 83.4068
EOD
$q2_1 << EOD
2 1.538
4 3.63463
10 8.32832
20 14.2471
100 35.4592
200 49.3384
EOD
$q2_2 << EOD
2 0.934635
4 4.14066
10 8.1711
20 15.4939
100 52.0998
EOD
$q2_3 << EOD
2 3.98057
4 11.3705
10 26.0985
20 33.1404
100 64.8289
200 96.5348
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
2 2.83095
4 15.9183
10 30.0872
20 41.1615
EOD
$q3_1 << EOD
2 3.80888
4 20.1662
10 38.2896
20 51.554
100 98.292
EOD
$q3_2 << EOD
2 1.28249
4 3.36823
10 5.2679
20 6.47968
100 37.8206
EOD
$q3_3 << EOD
2 1.68182
4 4.07586
10 20.3349
20 35.9864
100 69.3212
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
set output "stall.png"
set encoding utf8
set border 3 lw 1 lc rgb "#555555"
set tics nomirror out scale 0.6 textcolor rgb "#333333"
set grid lc rgb "#dddddd" lw 1
set multiplot layout 1,4 margins 0.08,0.97,0.27,0.84 spacing 0.03,0
set label 100 "Stall: how long one turn of the loop takes, same workload" at screen 0.5,0.955 center font ",16"
set logscale xy
set xrange [2:1000]
set yrange [0.729194:487.258]
set xtics ("50" 2, "90" 10, "99" 100, "99.9" 1000)
set format y "%g"
unset key
set xlabel "percentile" offset 0,0.3
set title "io\\_uring" font ",14" offset 0,-0.5
set ylabel "turn, µs" offset 0.5,0
$q0_0 << EOD
2 3.49184
4 22.3287
10 45.1984
20 60.9843
100 108.954
EOD
$q0_1 << EOD
2 3.17354
4 20.3694
10 35.9351
20 49.5671
100 84.6641
EOD
$q0_2 << EOD
2 1.08009
4 4.11144
10 8.33625
20 14.9478
100 44.7895
EOD
$q0_3 << EOD
2 1.35872
4 3.24597
10 20.7534
20 34.3566
100 66.7761
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
2 150.98
4 196.325
10 254.547
20 305.518
EOD
$q1_1 << EOD
2 167.417
4 218.416
10 279.929
20 337.125
EOD
$q1_2 << EOD
2 0.911492
4 4.33094
10 10.1702
20 16.796
100 58.0663
EOD
$q1_3 << EOD
2 20.4105
4 36.3501
10 165.48
20 241.979
100 374.814
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
2 3.53019
4 9.34518
10 23.4775
20 35.2026
100 83.4068
EOD
$q2_1 << EOD
2 1.538
4 3.63463
10 8.32832
20 14.2471
100 35.4592
200 49.3384
EOD
$q2_2 << EOD
2 0.934635
4 4.14066
10 8.1711
20 15.4939
100 52.0998
EOD
$q2_3 << EOD
2 3.98057
4 11.3705
10 26.0985
20 33.1404
100 64.8289
200 96.5348
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
2 2.83095
4 15.9183
10 30.0872
20 41.1615
EOD
$q3_1 << EOD
2 3.80888
4 20.1662
10 38.2896
20 51.554
100 98.292
EOD
$q3_2 << EOD
2 1.28249
4 3.36823
10 5.2679
20 6.47968
100 37.8206
EOD
$q3_3 << EOD
2 1.68182
4 4.07586
10 20.3349
20 35.9864
100 69.3212
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
