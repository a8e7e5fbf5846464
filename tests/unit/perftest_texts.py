"""ib_write_bw's output, COMPOSED from the printf formats of linux-rdma/perftest, src/perftest_parameters.{c,h}: no capture.

No machine with InfiniBand was at hand; the numbers are made up to test code.
"""

LINE = "-" * 87 + "\n"
HEADER = " #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]\n"
# REPORT_FMT: " %-7lu    %-10lu       %-7.2lf            %-7.2lf\t\t     %-7.6lf"
ROW = " %-7d    %-10d       %-7.2f            %-7.2f\t\t     %-7.6f\n"

PREFACE = (
    LINE
    + "                    RDMA_Write BW Test\n"
    + " Dual-port       : OFF\t\tDevice         : mlx5_ib0\n"
    + " Number of qps   : 1\t\tTransport type : IB\n"
    + " Connection type : RC\t\tUsing SRQ      : OFF\n"
    + " PCIe relax order: ON\t\tLock-free      : OFF\n"
    + " ibv_wr* API     : ON\t\tUsing Enhanced Reorder      : OFF\n"
    + " TX depth        : 128\n"
    + " CQ Moderation   : 1\n"
    + " CQE Poll Batch  : 16\n"
    + " Mtu             : 4096[B]\n"
    + " Link type       : IB\n"
    + " GID index       : 0\n"
    + " Max inline data : 0[B]\n"
    + " rdma_cm QPs\t : OFF\n"
    + " Data ex. method : Ethernet\n"
    + LINE
    + " local address: LID 0x05b1 QPN 0x0127 PSN 0x86bd7a RKey 0x1fff00 VAddr 0x007f4dd9a00000\n"
    + " remote address: LID 0x05a8 QPN 0x0127 PSN 0x2d9b61 RKey 0x1fff00 VAddr 0x007f1ea5600000\n"
    + LINE
)


def good(average=391.77, size=8388608, iterations=35014):
    """Return a client's output with ``--report_gbits -D 10``: in duration mode the peak is 0."""
    return PREFACE + HEADER + ROW % (size, iterations, 0.0, average, average / 8 / size * 1e3) + LINE


MIB = PREFACE + HEADER.replace("Gb/sec", "MiB/sec") + ROW % (65536, 5000, 46712.0, 46698.25, 0.747) + LINE
CPU = PREFACE + HEADER.rstrip() + "    CPU_Util[%]\n" + (ROW % (8388608, 35014, 0.0, 389.5, 0.0058)).rstrip() + "        1.04\n" + LINE
# REPORT_FMT_QOS: " %-7lu    %d           %lu           %-7.2lf            %-7.2lf                  %-7.6lf"
QOS_ROW = " 8388608    0           5000           0.00            388.10                  0.005800\n"
QOS = PREFACE + HEADER.replace("#iterations", "#sl      #iterations") + QOS_ROW + LINE
REFUSED = "Couldn't connect to 10.0.0.5:18515\nUnable to open file descriptor for socket connection Unable to init the socket connection\n"
BROKEN = PREFACE + HEADER + " Completion with error at client\n Failed status 12: wr_id 0 syndrom 0x81\nscnt=128, ccnt=0\n"
NO_DEVICE = "IB device mlx5_ib9 not found\n Unable to find the Infiniband/RoCE device\n"
