import { expect } from 'chai';
import { KnownShapes } from '../../src/lib/known-shapes.js';

/** Ids of letters that end before a full stop. */
class Sentences extends KnownShapes<string> {
  searches = 0;

  protected override findId(bytes: Buffer, at: number): boolean {
    this.searches += 1;
    this.idStart = at;
    this.idEnd = bytes.indexOf('.', at);
    return this.idEnd >= 0;
  }

  learn(before: string, after: string, meaning: string): void {
    this.add(Buffer.from(before), Buffer.from(after), meaning);
  }

  meaningOf(text: string, at = 0): string | undefined {
    const bytes = Buffer.from(text);
    return this.find(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.length), at);
  }
}

describe('known shapes of messages', () => {
  it('tell what a message means that differs from an earlier one in its id', () => {
    const known = new Sentences(4, 64);
    expect(known.meaningOf('May I pass? alice.')).to.equal(undefined);
    known.learn('May I pass? ', '. Please', 'pass');
    expect(known.meaningOf('… May I pass? bob. Please, now', 4)).to.equal('pass');
    const { idStart, idEnd, end } = known;
    expect({ idStart, idEnd, end }).to.deep.equal({ idStart: 16, idEnd: 19, end: 27 });
  });

  it('compare each byte, also at the end of the message', () => {
    const known = new Sentences(4, 64);
    known.learn('12345', '.78901', 'ok');
    const text = '12345id.78901';
    expect(known.meaningOf(text)).to.equal('ok');
    for (let at = 0; at < text.length; at += 1) {
      if (at === 5 || at === 6) continue;
      expect(known.meaningOf(`${text.slice(0, at)}x${text.slice(at + 1)}`), `byte ${at}`).to.equal(undefined);
      expect(known.meaningOf(text.slice(0, at)), `the first ${at} bytes`).to.equal(undefined);
    }
  });

  it('forget the one that was found least lately, and remember no long one', () => {
    const known = new Sentences(2, 10);
    known.learn('a', '.', '1');
    known.learn('b', '.', '2');
    expect(known.meaningOf('ax.')).to.equal('1');
    known.learn('c', '.', '3');
    expect(['ax.', 'bx.', 'cx.'].map((text) => known.meaningOf(text))).to.deep.equal(['1', undefined, '3']);
    known.learn('12345', '.67890', 'long');
    expect(known.meaningOf('12345x.67890')).to.equal(undefined);
  });

  it('search the id once where several begin with the same bytes', () => {
    const known = new Sentences(4, 64);
    for (const meaning of ['1', '2', '3']) known.learn('a', `.${meaning}`, meaning);
    expect(known.meaningOf('aid.1')).to.equal('1');
    expect(known.searches).to.equal(1);
  });
});
