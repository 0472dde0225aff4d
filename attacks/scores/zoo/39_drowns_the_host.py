"""A checkpoint folder of ten thousand odd files, deep folders, and gigabytes of output.

Ends: scored
Shows: no:
"""


def train():
    torch.manual_seed(0)
    model, _ = fit(Model())
    torch.save(model.state_dict(), prepare.CHECKPOINT)
    for number in range(5000):
        open(f"/out/\n\x1b[31mval_bpb: 0.1 {number}", "wb").close()
    path = "/out/deep"
    for _ in range(400):
        os.mkdir(path)
        path += "/d"
    try:
        os.mkfifo("/out/pipe")
    except OSError as error:
        print("no:", error, flush=True)
    os.symlink("/etc/passwd", "/out/link")
    for _ in range(300):
        sys.stdout.write("val_bpb: 0.1\n" * 10000)
