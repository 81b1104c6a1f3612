import { expect } from 'chai';
import { Client, MARK } from '../../src/state/client.js';

describe('a client as the table shows it', () => {
  it('has no place and no name at first, and reads its id once', () => {
    let reads = 0;
    const client = new Client((slot) => `client ${slot}, read ${(reads += 1)}`);
    expect(client).to.include({ slot: -1, hasStoredDecisions: false, isOnHeap: false });
    client.slot = 7;
    expect([client.id, client.id]).to.deep.equal(['client 7, read 1', 'client 7, read 1']);
  });

  it('shows each of its marks, whatever the others are', () => {
    const client = new Client(() => '');
    for (const others of [0, MARK.unwritten]) {
      client.marks = others;
      expect(client).to.include({ isChanged: false, decidedAsActingOwner: false });
      client.marks = others | MARK.changed;
      expect(client).to.include({ isChanged: true, decidedAsActingOwner: false });
      client.marks = others | MARK.actingOwner;
      expect(client).to.include({ isChanged: false, decidedAsActingOwner: true });
    }
  });
});
