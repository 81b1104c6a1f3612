/**
 * A map that drops the entry which was set first when it would hold more than `max`. Nodes use lru-cache; the SDK brings
 * no package along.
 */
export class BoundedMap<K, V> extends Map<K, V> {
  readonly #max: number;

  constructor(max: number) {
    super();
    this.#max = max;
  }

  override set(key: K, value: V): this {
    // A map lists its keys in the order in which they came. A key that is set again is the latest.
    this.delete(key);
    super.set(key, value);
    if (this.size > this.#max) this.delete(this.keys().next().value!);
    return this;
  }
}
