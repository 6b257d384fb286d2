set terminal svg size 1000,720 font "Helvetica,14" background rgb "white" enhanced
set output "iops.svg"
set encoding utf8
set border 3 lw 1 lc rgb "#555555"
set tics nomirror out scale 0.6 textcolor rgb "#333333"
set grid lc rgb "#dddddd" lw 1
set multiplot layout 2,2 margins 0.145,0.985,0.17,0.955 spacing 0.165,0.13
unset key
set yrange [-0.6:6.6]
set grid xtics noytics
set bars 0.6
set ytics ("callbacks" 6, "coroutines" 5, "threadpool" 4, "freeze-thaw" 3, "fio, raw file" 2, "qemu-img bench" 1, "qemu-img, tuned" 0)
unset label
unset arrow
set arrow from graph 0,first 0.5 to graph 1,first 0.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 1.5 to graph 1,first 1.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 2.5 to graph 1,first 2.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 3.5 to graph 1,first 3.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 4.5 to graph 1,first 4.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 5.5 to graph 1,first 5.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set title "Warm random read" font ",15" offset 0,-0.4
unset xlabel
set xrange [0:115.881]
set label "not run" at graph 0.02,first 0 font ",11" textcolor rgb "#999999"
$p0_0 << EOD
61.4476 6.247 54.5732 69.188
55.9987 5.247 49.5036 63.3459
60.5119 4.247 52.739 69.4304
55.3017 3.248 52.6158 58.1247
69.9516 2.248 58.4456 83.7226
65.8792 1.248 53.6317 80.9235
EOD
$p0_1 << EOD
56.6325 6.082 50.4079 63.6258
57.3655 5.082 44.3105 74.267
59.2182 4.082 52.4384 66.8745
59.5626 3.083 48.7249 72.8108
65.1972 2.083 39.616 107.297
73.9075 1.083 57.9617 94.2401
EOD
$p0_2 << EOD
55.1551 5.918 41.7892 72.7959
56.9706 4.918 47.1026 68.9059
60.8929 3.917 50.2091 73.85
57.196 2.917 52.6958 62.0806
63.8814 1.917 52.6668 77.484
50.5345 0.917 47.4679 53.7992
EOD
$p0_3 << EOD
61.873 5.753 53.4869 71.5738
57.0076 4.753 53.821 60.3829
58.4083 3.752 54.7675 62.2911
56.8117 2.752 52.6965 61.2483
78.0912 1.752 70.3418 86.6943
68.8326 0.752 63.4773 74.6397
EOD
plot $p0_0 using 1:2:3:4 with xerrorbars lw 1.6 pt 7 ps 0.8 lc rgb "#0072B2" title "io\\_uring", \
  $p0_1 using 1:2:3:4 with xerrorbars lw 1.6 pt 5 ps 0.8 lc rgb "#E69F00" title "linux-aio", \
  $p0_2 using 1:2:3:4 with xerrorbars lw 1.6 pt 9 ps 0.8 lc rgb "#009E73" title "threads", \
  $p0_3 using 1:2:3:4 with xerrorbars lw 1.6 pt 6 ps 0.8 lc rgb "#CC79A7" title "io\\_uring, 1 CPU"
unset label
unset arrow
set arrow from graph 0,first 0.5 to graph 1,first 0.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 1.5 to graph 1,first 1.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 2.5 to graph 1,first 2.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 3.5 to graph 1,first 3.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 4.5 to graph 1,first 4.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 5.5 to graph 1,first 5.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set title "Cold-L2 random read" font ",15" offset 0,-0.4
unset xlabel
set xrange [0:81.0275]
set label "507 →" at graph 0.675,first 2 right font ",11" textcolor rgb "#0072B2"
set label "not run" at graph 0.02,first 0 font ",11" textcolor rgb "#999999"
set label "396 →" at graph 0.780,first 2 right font ",11" textcolor rgb "#E69F00"
set label "1934 →" at graph 0.885,first 2 right font ",11" textcolor rgb "#009E73"
set label "520 →" at graph 0.990,first 2 right font ",11" textcolor rgb "#CC79A7"
$p1_0 << EOD
47.7731 6.247 43.0239 53.0464
51.5289 5.247 47.115 56.3563
57.6672 4.247 54.0279 61.5515
13.8233 3.248 11.8889 16.0726
12.7284 1.248 9.90946 16.3491
EOD
$p1_1 << EOD
49.6349 6.082 40.4231 60.946
52.9891 5.082 48.2739 58.1649
57.9181 4.082 50.2748 66.7233
13.2592 3.083 10.8099 16.2634
12.784 1.083 10.953 14.921
EOD
$p1_2 << EOD
56.9611 5.918 47.5331 68.2591
51.7058 4.918 50.5583 52.8793
62.87 3.917 57.645 68.5686
9.75072 2.917 9.30793 10.2146
8.3843 0.917 5.39541 13.0289
EOD
$p1_3 << EOD
49.961 5.753 43.8242 56.9571
57.2256 4.753 43.6488 75.0255
55.4911 3.752 43.8023 70.2991
10.4116 2.752 9.27522 11.6873
8.80409 0.752 6.92213 11.1977
EOD
plot $p1_0 using 1:2:3:4 with xerrorbars lw 1.6 pt 7 ps 0.8 lc rgb "#0072B2" title "io\\_uring", \
  $p1_1 using 1:2:3:4 with xerrorbars lw 1.6 pt 5 ps 0.8 lc rgb "#E69F00" title "linux-aio", \
  $p1_2 using 1:2:3:4 with xerrorbars lw 1.6 pt 9 ps 0.8 lc rgb "#009E73" title "threads", \
  $p1_3 using 1:2:3:4 with xerrorbars lw 1.6 pt 6 ps 0.8 lc rgb "#CC79A7" title "io\\_uring, 1 CPU"
unset label
unset arrow
set arrow from graph 0,first 0.5 to graph 1,first 0.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 1.5 to graph 1,first 1.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 2.5 to graph 1,first 2.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 3.5 to graph 1,first 3.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 4.5 to graph 1,first 4.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 5.5 to graph 1,first 5.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set title "Allocating write" font ",15" offset 0,-0.4
set xlabel "thousand requests a second" offset 0,0.4
set xrange [0:97.8756]
$p2_0 << EOD
59.6401 6.247 43.2157 82.3067
63.6894 5.247 48.7437 83.2177
57.5101 4.247 49.1915 67.2355
47.0463 3.248 28.5161 77.6178
51.1407 2.248 46.2115 56.5957
8.20331 1.248 6.71699 10.0185
49.0894 0.247 43.3783 55.5524
EOD
$p2_1 << EOD
55.2114 6.082 40.7376 74.8276
56.5438 5.082 47.0028 68.0216
46.3823 4.082 33.5027 64.2133
59.9576 3.083 39.6678 90.6256
49.3237 2.083 44.0217 55.2643
7.50712 1.083 6.59812 8.54134
54.2909 0.083 40.6656 72.4815
EOD
$p2_2 << EOD
47.8804 5.918 38.4663 59.5985
48.7447 4.918 40.2053 59.0978
57.3939 3.917 46.9174 70.2097
58.1039 2.917 52.1914 64.6862
11.6917 1.917 8.34436 16.3818
6.54233 0.917 5.00862 8.54567
34.8318 -0.083 21.3686 56.7775
EOD
$p2_3 << EOD
63.036 5.753 46.662 85.1558
64.0454 4.753 54.5096 75.2493
32.5996 3.752 20.54 51.7398
56.3925 2.752 46.9006 67.8054
65.0403 1.752 56.852 74.408
6.9561 0.752 5.56233 8.69912
47.1478 -0.247 42.0716 52.8365
EOD
plot $p2_0 using 1:2:3:4 with xerrorbars lw 1.6 pt 7 ps 0.8 lc rgb "#0072B2" title "io\\_uring", \
  $p2_1 using 1:2:3:4 with xerrorbars lw 1.6 pt 5 ps 0.8 lc rgb "#E69F00" title "linux-aio", \
  $p2_2 using 1:2:3:4 with xerrorbars lw 1.6 pt 9 ps 0.8 lc rgb "#009E73" title "threads", \
  $p2_3 using 1:2:3:4 with xerrorbars lw 1.6 pt 6 ps 0.8 lc rgb "#CC79A7" title "io\\_uring, 1 CPU"
unset label
unset arrow
set arrow from graph 0,first 0.5 to graph 1,first 0.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 1.5 to graph 1,first 1.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 2.5 to graph 1,first 2.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 3.5 to graph 1,first 3.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 4.5 to graph 1,first 4.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 5.5 to graph 1,first 5.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set title "Mixed with flush" font ",15" offset 0,-0.4
set xlabel "thousand requests a second" offset 0,0.4
set xrange [0:95.4696]
set label "not run" at graph 0.02,first 1 font ",11" textcolor rgb "#999999"
set label "not run" at graph 0.02,first 0 font ",11" textcolor rgb "#999999"
$p3_0 << EOD
15.0491 6.247 12.7832 17.7166
16.3466 5.247 12.9166 20.6874
15.0445 4.247 12.2268 18.5116
11.7067 3.248 8.15311 16.8092
54.0421 2.248 45.7398 63.8514
EOD
$p3_1 << EOD
12.9059 6.082 10.1846 16.3542
14.1125 5.082 11.6626 17.0771
14.4057 4.082 10.0148 20.7217
12.5826 3.083 10.8072 14.6497
57.4228 2.083 37.3016 88.3978
EOD
$p3_2 << EOD
13.4187 5.918 9.6682 18.6242
14.8601 4.918 13.4151 16.4607
16.5208 3.917 15.1788 17.9814
11.7736 2.917 10.6617 13.0015
44.124 1.917 38.0344 51.1886
EOD
$p3_3 << EOD
14.4972 5.753 11.8357 17.7572
14.9127 4.753 11.0956 20.0429
14.5798 3.752 11.4162 18.62
11.6684 2.752 10.6069 12.8361
53.686 1.752 48.8207 59.0361
EOD
plot $p3_0 using 1:2:3:4 with xerrorbars lw 1.6 pt 7 ps 0.8 lc rgb "#0072B2" title "io\\_uring", \
  $p3_1 using 1:2:3:4 with xerrorbars lw 1.6 pt 5 ps 0.8 lc rgb "#E69F00" title "linux-aio", \
  $p3_2 using 1:2:3:4 with xerrorbars lw 1.6 pt 9 ps 0.8 lc rgb "#009E73" title "threads", \
  $p3_3 using 1:2:3:4 with xerrorbars lw 1.6 pt 6 ps 0.8 lc rgb "#CC79A7" title "io\\_uring, 1 CPU"
unset title
unset xlabel
unset tics
unset border
unset grid
unset arrow
unset label
set lmargin at screen 0
set rmargin at screen 1
set bmargin at screen 0
set tmargin at screen 0.1
set xrange [0:1]
set yrange [0:1]
set key at screen 0.5,0.065 center horizontal samplen 1.5 font ",14"
set label "4 KiB, depth 32, direct I/O; points: mean of 4 interleaved trials, bars: 95 % interval" at screen 0.5,0.022 center font ",11" textcolor rgb "#555555"
plot NaN with points pt 7 ps 1.1 lc rgb "#0072B2" title "io\\_uring", NaN with points pt 5 ps 1.1 lc rgb "#E69F00" title "linux-aio", NaN with points pt 9 ps 1.1 lc rgb "#009E73" title "threads", NaN with points pt 6 ps 1.1 lc rgb "#CC79A7" title "io\\_uring, 1 CPU"
unset multiplot
unset output
reset
set terminal pngcairo size 1500,1080 font "Sans,14" fontscale 1.05 background rgb "white" enhanced lw 1.5
set output "iops.png"
set encoding utf8
set border 3 lw 1 lc rgb "#555555"
set tics nomirror out scale 0.6 textcolor rgb "#333333"
set grid lc rgb "#dddddd" lw 1
set multiplot layout 2,2 margins 0.145,0.985,0.17,0.955 spacing 0.165,0.13
unset key
set yrange [-0.6:6.6]
set grid xtics noytics
set bars 0.6
set ytics ("callbacks" 6, "coroutines" 5, "threadpool" 4, "freeze-thaw" 3, "fio, raw file" 2, "qemu-img bench" 1, "qemu-img, tuned" 0)
unset label
unset arrow
set arrow from graph 0,first 0.5 to graph 1,first 0.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 1.5 to graph 1,first 1.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 2.5 to graph 1,first 2.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 3.5 to graph 1,first 3.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 4.5 to graph 1,first 4.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 5.5 to graph 1,first 5.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set title "Warm random read" font ",15" offset 0,-0.4
unset xlabel
set xrange [0:115.881]
set label "not run" at graph 0.02,first 0 font ",11" textcolor rgb "#999999"
$p0_0 << EOD
61.4476 6.247 54.5732 69.188
55.9987 5.247 49.5036 63.3459
60.5119 4.247 52.739 69.4304
55.3017 3.248 52.6158 58.1247
69.9516 2.248 58.4456 83.7226
65.8792 1.248 53.6317 80.9235
EOD
$p0_1 << EOD
56.6325 6.082 50.4079 63.6258
57.3655 5.082 44.3105 74.267
59.2182 4.082 52.4384 66.8745
59.5626 3.083 48.7249 72.8108
65.1972 2.083 39.616 107.297
73.9075 1.083 57.9617 94.2401
EOD
$p0_2 << EOD
55.1551 5.918 41.7892 72.7959
56.9706 4.918 47.1026 68.9059
60.8929 3.917 50.2091 73.85
57.196 2.917 52.6958 62.0806
63.8814 1.917 52.6668 77.484
50.5345 0.917 47.4679 53.7992
EOD
$p0_3 << EOD
61.873 5.753 53.4869 71.5738
57.0076 4.753 53.821 60.3829
58.4083 3.752 54.7675 62.2911
56.8117 2.752 52.6965 61.2483
78.0912 1.752 70.3418 86.6943
68.8326 0.752 63.4773 74.6397
EOD
plot $p0_0 using 1:2:3:4 with xerrorbars lw 1.6 pt 7 ps 0.8 lc rgb "#0072B2" title "io\\_uring", \
  $p0_1 using 1:2:3:4 with xerrorbars lw 1.6 pt 5 ps 0.8 lc rgb "#E69F00" title "linux-aio", \
  $p0_2 using 1:2:3:4 with xerrorbars lw 1.6 pt 9 ps 0.8 lc rgb "#009E73" title "threads", \
  $p0_3 using 1:2:3:4 with xerrorbars lw 1.6 pt 6 ps 0.8 lc rgb "#CC79A7" title "io\\_uring, 1 CPU"
unset label
unset arrow
set arrow from graph 0,first 0.5 to graph 1,first 0.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 1.5 to graph 1,first 1.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 2.5 to graph 1,first 2.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 3.5 to graph 1,first 3.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 4.5 to graph 1,first 4.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 5.5 to graph 1,first 5.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set title "Cold-L2 random read" font ",15" offset 0,-0.4
unset xlabel
set xrange [0:81.0275]
set label "507 →" at graph 0.675,first 2 right font ",11" textcolor rgb "#0072B2"
set label "not run" at graph 0.02,first 0 font ",11" textcolor rgb "#999999"
set label "396 →" at graph 0.780,first 2 right font ",11" textcolor rgb "#E69F00"
set label "1934 →" at graph 0.885,first 2 right font ",11" textcolor rgb "#009E73"
set label "520 →" at graph 0.990,first 2 right font ",11" textcolor rgb "#CC79A7"
$p1_0 << EOD
47.7731 6.247 43.0239 53.0464
51.5289 5.247 47.115 56.3563
57.6672 4.247 54.0279 61.5515
13.8233 3.248 11.8889 16.0726
12.7284 1.248 9.90946 16.3491
EOD
$p1_1 << EOD
49.6349 6.082 40.4231 60.946
52.9891 5.082 48.2739 58.1649
57.9181 4.082 50.2748 66.7233
13.2592 3.083 10.8099 16.2634
12.784 1.083 10.953 14.921
EOD
$p1_2 << EOD
56.9611 5.918 47.5331 68.2591
51.7058 4.918 50.5583 52.8793
62.87 3.917 57.645 68.5686
9.75072 2.917 9.30793 10.2146
8.3843 0.917 5.39541 13.0289
EOD
$p1_3 << EOD
49.961 5.753 43.8242 56.9571
57.2256 4.753 43.6488 75.0255
55.4911 3.752 43.8023 70.2991
10.4116 2.752 9.27522 11.6873
8.80409 0.752 6.92213 11.1977
EOD
plot $p1_0 using 1:2:3:4 with xerrorbars lw 1.6 pt 7 ps 0.8 lc rgb "#0072B2" title "io\\_uring", \
  $p1_1 using 1:2:3:4 with xerrorbars lw 1.6 pt 5 ps 0.8 lc rgb "#E69F00" title "linux-aio", \
  $p1_2 using 1:2:3:4 with xerrorbars lw 1.6 pt 9 ps 0.8 lc rgb "#009E73" title "threads", \
  $p1_3 using 1:2:3:4 with xerrorbars lw 1.6 pt 6 ps 0.8 lc rgb "#CC79A7" title "io\\_uring, 1 CPU"
unset label
unset arrow
set arrow from graph 0,first 0.5 to graph 1,first 0.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 1.5 to graph 1,first 1.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 2.5 to graph 1,first 2.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 3.5 to graph 1,first 3.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 4.5 to graph 1,first 4.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 5.5 to graph 1,first 5.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set title "Allocating write" font ",15" offset 0,-0.4
set xlabel "thousand requests a second" offset 0,0.4
set xrange [0:97.8756]
$p2_0 << EOD
59.6401 6.247 43.2157 82.3067
63.6894 5.247 48.7437 83.2177
57.5101 4.247 49.1915 67.2355
47.0463 3.248 28.5161 77.6178
51.1407 2.248 46.2115 56.5957
8.20331 1.248 6.71699 10.0185
49.0894 0.247 43.3783 55.5524
EOD
$p2_1 << EOD
55.2114 6.082 40.7376 74.8276
56.5438 5.082 47.0028 68.0216
46.3823 4.082 33.5027 64.2133
59.9576 3.083 39.6678 90.6256
49.3237 2.083 44.0217 55.2643
7.50712 1.083 6.59812 8.54134
54.2909 0.083 40.6656 72.4815
EOD
$p2_2 << EOD
47.8804 5.918 38.4663 59.5985
48.7447 4.918 40.2053 59.0978
57.3939 3.917 46.9174 70.2097
58.1039 2.917 52.1914 64.6862
11.6917 1.917 8.34436 16.3818
6.54233 0.917 5.00862 8.54567
34.8318 -0.083 21.3686 56.7775
EOD
$p2_3 << EOD
63.036 5.753 46.662 85.1558
64.0454 4.753 54.5096 75.2493
32.5996 3.752 20.54 51.7398
56.3925 2.752 46.9006 67.8054
65.0403 1.752 56.852 74.408
6.9561 0.752 5.56233 8.69912
47.1478 -0.247 42.0716 52.8365
EOD
plot $p2_0 using 1:2:3:4 with xerrorbars lw 1.6 pt 7 ps 0.8 lc rgb "#0072B2" title "io\\_uring", \
  $p2_1 using 1:2:3:4 with xerrorbars lw 1.6 pt 5 ps 0.8 lc rgb "#E69F00" title "linux-aio", \
  $p2_2 using 1:2:3:4 with xerrorbars lw 1.6 pt 9 ps 0.8 lc rgb "#009E73" title "threads", \
  $p2_3 using 1:2:3:4 with xerrorbars lw 1.6 pt 6 ps 0.8 lc rgb "#CC79A7" title "io\\_uring, 1 CPU"
unset label
unset arrow
set arrow from graph 0,first 0.5 to graph 1,first 0.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 1.5 to graph 1,first 1.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 2.5 to graph 1,first 2.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 3.5 to graph 1,first 3.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 4.5 to graph 1,first 4.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set arrow from graph 0,first 5.5 to graph 1,first 5.5 nohead lw 0.6 lc rgb "#e8e8e8" back
set title "Mixed with flush" font ",15" offset 0,-0.4
set xlabel "thousand requests a second" offset 0,0.4
set xrange [0:95.4696]
set label "not run" at graph 0.02,first 1 font ",11" textcolor rgb "#999999"
set label "not run" at graph 0.02,first 0 font ",11" textcolor rgb "#999999"
$p3_0 << EOD
15.0491 6.247 12.7832 17.7166
16.3466 5.247 12.9166 20.6874
15.0445 4.247 12.2268 18.5116
11.7067 3.248 8.15311 16.8092
54.0421 2.248 45.7398 63.8514
EOD
$p3_1 << EOD
12.9059 6.082 10.1846 16.3542
14.1125 5.082 11.6626 17.0771
14.4057 4.082 10.0148 20.7217
12.5826 3.083 10.8072 14.6497
57.4228 2.083 37.3016 88.3978
EOD
$p3_2 << EOD
13.4187 5.918 9.6682 18.6242
14.8601 4.918 13.4151 16.4607
16.5208 3.917 15.1788 17.9814
11.7736 2.917 10.6617 13.0015
44.124 1.917 38.0344 51.1886
EOD
$p3_3 << EOD
14.4972 5.753 11.8357 17.7572
14.9127 4.753 11.0956 20.0429
14.5798 3.752 11.4162 18.62
11.6684 2.752 10.6069 12.8361
53.686 1.752 48.8207 59.0361
EOD
plot $p3_0 using 1:2:3:4 with xerrorbars lw 1.6 pt 7 ps 0.8 lc rgb "#0072B2" title "io\\_uring", \
  $p3_1 using 1:2:3:4 with xerrorbars lw 1.6 pt 5 ps 0.8 lc rgb "#E69F00" title "linux-aio", \
  $p3_2 using 1:2:3:4 with xerrorbars lw 1.6 pt 9 ps 0.8 lc rgb "#009E73" title "threads", \
  $p3_3 using 1:2:3:4 with xerrorbars lw 1.6 pt 6 ps 0.8 lc rgb "#CC79A7" title "io\\_uring, 1 CPU"
unset title
unset xlabel
unset tics
unset border
unset grid
unset arrow
unset label
set lmargin at screen 0
set rmargin at screen 1
set bmargin at screen 0
set tmargin at screen 0.1
set xrange [0:1]
set yrange [0:1]
set key at screen 0.5,0.065 center horizontal samplen 1.5 font ",14"
set label "4 KiB, depth 32, direct I/O; points: mean of 4 interleaved trials, bars: 95 % interval" at screen 0.5,0.022 center font ",11" textcolor rgb "#555555"
plot NaN with points pt 7 ps 1.1 lc rgb "#0072B2" title "io\\_uring", NaN with points pt 5 ps 1.1 lc rgb "#E69F00" title "linux-aio", NaN with points pt 9 ps 1.1 lc rgb "#009E73" title "threads", NaN with points pt 6 ps 1.1 lc rgb "#CC79A7" title "io\\_uring, 1 CPU"
unset multiplot
unset output
reset
