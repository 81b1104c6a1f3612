/** How often each client asks. */
export type Popularity = { readonly kind: 'even' } | { readonly kind: 'zipf'; readonly exponent: number };

/** 20 bytes each, told apart by their number. */
export function clientId(number: number): string {
  return `client-${String(number).padStart(13, '0')}`;
}

/**
 * A draw of client numbers, 0 to `clients` − 1. Under Zipf's law number n is drawn in proportion to `1 / (n + 1)^exponent`:
 * a few clients send most of the requests, as they do in life.
 */
export function createDraw(clients: number, popularity: Popularity, random: () => number = Math.random): () => number {
  if (popularity.kind === 'even') return () => Math.floor(random() * clients);
  const cumulative = new Float64Array(clients);
  let total = 0;
  for (let i = 0; i < clients; i += 1) {
    total += (i + 1) ** -popularity.exponent;
    cumulative[i] = total;
  }
  return () => {
    const point = random() * total;
    let low = 0;
    let high = clients - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (cumulative[middle]! > point) high = middle;
      else low = middle + 1;
    }
    return low;
  };
}
