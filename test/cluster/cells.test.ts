import { expect } from 'chai';
import { Cells } from '../../src/state/cells.js';

describe('cells in pages', () => {
  const create = () => {
    let made = 0;
    const cells = new Cells(2, () => `page ${(made += 1)}`);
    return { cells, takeMany: (count: number) => Array.from({ length: count }, () => cells.take()), made: () => made };
  };

  it('are taken from the first page that has a free one, and grow by a page', () => {
    const { cells, takeMany } = create();
    expect(cells.pages).to.deep.equal([]);
    expect(takeMany(5)).to.deep.equal([0, 1, 2, 3, 4]);
    expect(cells.pages).to.deep.equal(['page 1', 'page 2']);
    takeMany(4);
    expect(cells.pages).to.have.length(3);
    cells.release(5);
    cells.release(2);
    expect(takeMany(3)).to.deep.equal([2, 5, 9]);
  });

  it('release a page with its last cell, and the free pages behind it', () => {
    const { cells, takeMany } = create();
    takeMany(12);
    for (const cell of [4, 5, 6]) cells.release(cell);
    expect(cells.pages).to.deep.equal(['page 1', 'page 2', 'page 3']);
    cells.release(7);
    expect(cells.pages).to.deep.equal(['page 1', undefined, 'page 3']);
    for (const cell of [8, 9, 10, 11]) cells.release(cell);
    expect(cells.pages).to.deep.equal(['page 1']);
    for (const cell of [3, 2, 1, 0]) cells.release(cell);
    expect(cells.pages).to.deep.equal([]);
    expect(cells.take()).to.equal(0);
  });

  it('use a released page again for the next one', () => {
    const { cells, takeMany, made } = create();
    takeMany(5);
    cells.release(4);
    expect(cells.take()).to.equal(4);
    expect(cells.pages).to.deep.equal(['page 1', 'page 2']);
    expect(made()).to.equal(2);
    takeMany(4);
    expect(made()).to.equal(3);
  });
});
