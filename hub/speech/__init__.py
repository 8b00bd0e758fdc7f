"""Speech to text: decoding of windows and long recordings, words in time, results and files."""
