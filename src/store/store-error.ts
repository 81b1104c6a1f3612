/** Another version of this program wrote the store. The message ends the start. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
}
