/**
 * Cells of one size, in pages. Cells are taken and released one by one. Growth adds a page and copies nothing.
 */
export interface Cells<Page> {
  /** Pages by number. A page of which no cell is taken is released, except one. */
  readonly pages: readonly (Page | undefined)[];
  /**
   * Takes a free cell of the first page that has one. So the last pages become free and are released.
   * @returns the cell
   */
  take(): number;
  release(cell: number): void;
}

interface FreeCells {
  /** Free cells of the page. The last one is taken next. */
  readonly stack: Uint16Array;
  count: number;
}

/**
 * @param pageShift a page has 2^pageShift cells, at most 2^16; cell `c` has index `c & (2^pageShift − 1)` in page
 * `c >> pageShift`
 */
export function createCells<Page>(pageShift: number, createPage: () => Page): Cells<Page> {
  const cellsPerPage = 2 ** pageShift;
  const pages: (Page | undefined)[] = [];
  const free: (FreeCells | undefined)[] = [];
  /** No page before this one has a free cell. */
  let firstFree = 0;
  /**
   * A released page that is used again for the next page. So a table that shrinks and grows by one client allocates
   * nothing.
   */
  let spare: Page | undefined;

  function addPage(page: number): FreeCells {
    pages[page] = spare ?? createPage();
    spare = undefined;
    const stack = Uint16Array.from({ length: cellsPerPage }, (_, i) => cellsPerPage - 1 - i);
    return (free[page] = { stack, count: cellsPerPage });
  }

  return {
    pages,
    take() {
      while (free[firstFree]?.count === 0) firstFree += 1;
      const cells = free[firstFree] ?? addPage(firstFree);
      cells.count -= 1;
      return firstFree * cellsPerPage + cells.stack[cells.count]!;
    },
    release(cell) {
      const page = cell >> pageShift;
      const cells = free[page]!;
      cells.stack[cells.count] = cell & (cellsPerPage - 1);
      cells.count += 1;
      firstFree = Math.min(firstFree, page);
      if (cells.count < cellsPerPage) return;
      spare = pages[page];
      pages[page] = undefined;
      free[page] = undefined;
      while (pages.length > 0 && pages.at(-1) === undefined) {
        pages.pop();
        free.pop();
      }
    },
  };
}
