interface FreeCells {
  /** Free cells of the page. The last one is taken next. */
  readonly stack: Uint16Array;
  count: number;
}

/**
 * Cells of one size, in pages. Cells are taken and released one by one. Growth adds a page and copies nothing.
 *
 * @param pageShift a page has 2^pageShift cells, at most 2^16; cell `c` has index `c & (2^pageShift − 1)` in page
 * `c >> pageShift`
 */
export class Cells<Page> {
  private readonly cellsPerPage: number;
  /** Pages by number. A page of which no cell is taken is released, except one. */
  readonly pages: (Page | undefined)[] = [];
  private readonly free: (FreeCells | undefined)[] = [];
  /** No page before this one has a free cell. */
  private firstFree = 0;
  /**
   * A released page that is used again for the next page. So a table that shrinks and grows by one client allocates
   * nothing.
   */
  private spare: Page | undefined;

  constructor(
    private readonly pageShift: number,
    private readonly createPage: () => Page,
  ) {
    this.cellsPerPage = 2 ** this.pageShift;
  }

  /**
   * Takes a free cell of the first page that has one. So the last pages become free and are released.
   * @returns the cell
   */
  take(): number {
    while (this.free[this.firstFree]?.count === 0) this.firstFree += 1;
    const cells = this.free[this.firstFree] ?? this.addPage(this.firstFree);
    cells.count -= 1;
    return this.firstFree * this.cellsPerPage + cells.stack[cells.count]!;
  }

  release(cell: number): void {
    const page = cell >> this.pageShift;
    const cells = this.free[page]!;
    cells.stack[cells.count] = cell & (this.cellsPerPage - 1);
    cells.count += 1;
    this.firstFree = Math.min(this.firstFree, page);
    if (cells.count < this.cellsPerPage) return;
    this.spare = this.pages[page];
    this.pages[page] = undefined;
    this.free[page] = undefined;
    while (this.pages.length > 0 && this.pages.at(-1) === undefined) {
      this.pages.pop();
      this.free.pop();
    }
  }

  private addPage(page: number): FreeCells {
    this.pages[page] = this.spare ?? this.createPage();
    this.spare = undefined;
    const stack = Uint16Array.from({ length: this.cellsPerPage }, (_, i) => this.cellsPerPage - 1 - i);
    return (this.free[page] = { stack, count: this.cellsPerPage });
  }
}
