/**
 * The way a node decides if neither the owner nor a successor answers: with an equal share of the limit (`local`), by
 * allowing all (`open`), or by denying all (`closed`).
 */
export type OnUnavailable = 'local' | 'open' | 'closed';
