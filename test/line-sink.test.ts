import { expect } from 'chai';
import { LineSink } from '../src/app/line-sink.js';

/** A file with room for so many bytes. It fails as the operating system does where there is none. */
function fileWith(room: number, code: string) {
  const file = {
    room,
    text: '',
    write: (bytes: Buffer): number => {
      if (file.room === 0) throw Object.assign(new Error(code), { code });
      const part = bytes.subarray(0, file.room);
      file.room -= part.length;
      file.text += part.toString();
      return part.length;
    },
  };
  return file;
}

describe('log lines', () => {
  it('are dropped and counted on a full disk, and go on once there is room', () => {
    const file = fileWith(8, 'ENOSPC');
    const lost: string[] = [];
    const sink = new LineSink(file.write, (line, code) => lost.push(`${code} ${line}`));
    for (const line of ['one\n', 'two\n', 'three\n']) sink.write(line);
    expect(file.text).to.equal('one\ntwo\n');
    expect(lost).to.deep.equal(['ENOSPC three\n']);
    file.room = 100;
    sink.write('four\n');
    expect(file.text).to.equal('one\ntwo\nfour\n');
    expect(sink.dropped).to.equal(1);
  });

  it('begin on a line of their own after one that was cut by a full disk', () => {
    const file = fileWith(6, 'ENOSPC');
    const sink = new LineSink(file.write);
    sink.write('one\n');
    sink.write('two\n');
    file.room = 100;
    sink.write('three\n');
    expect(file.text).to.equal('one\ntw\nthree\n');
    expect(sink.dropped).to.equal(1);
  });

  it('wait in order for a slow reader, whole, and are dropped above a bound', () => {
    const file = fileWith(6, 'EAGAIN');
    const sink = new LineSink(file.write, undefined, 12);
    for (const line of ['one\n', 'two\n', 'three\n', 'four\n', 'five\n']) sink.write(line);
    expect(file.text).to.equal('one\ntw');
    expect(sink.dropped).to.equal(2);
    file.room = 100;
    sink.flush();
    expect(file.text).to.equal('one\ntwo\nthree\n');
    sink.write('six\n');
    expect(file.text).to.equal('one\ntwo\nthree\nsix\n');
  });

  it('are written by themselves once a slow reader has made room', async () => {
    const file = fileWith(2, 'EAGAIN');
    const sink = new LineSink(file.write);
    sink.write('one\n');
    file.room = 100;
    while (file.text !== 'one\n') await new Promise((resolve) => setTimeout(resolve, 1));
    expect(sink.dropped).to.equal(0);
  });
});
