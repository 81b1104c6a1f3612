import type { RequestHandler } from 'express';
import type { AdaptiveController } from '../../../node/policies/adaptive-controller.js';
import type { ActivePolicies } from '../../../policy/active-policies.js';
import type { BodyReader } from '../body.js';
import { LoadReportSchema } from '../../validate/policy-schema.js';
import { TokenringError } from '../../../lib/error.js';
import { Validator } from '../../validate/validator.js';

const loadReport = new Validator(LoadReportSchema);

/** Answers `/v1/load/{policy}`: the reported load of a protected service, and the factor on its limits. */
export class LoadEndpoints {
  constructor(
    private readonly adaptive: Pick<AdaptiveController, 'report' | 'factors'>,
    private readonly activePolicies: Pick<ActivePolicies, 'set'>,
    private readonly bodies: BodyReader,
  ) {}

  readonly get: RequestHandler = (req, res) => {
    const name = req.params['policy'] as string;
    if (this.activePolicies.set().policies.get(name)?.adaptive === undefined) throw unknown();
    res.json({ name, factor: this.adaptive.factors().find(([one]) => one === name)?.[1] ?? 1 });
  };

  readonly put: RequestHandler = async (req, res) => {
    const name = req.params['policy'] as string;
    const report = loadReport.read(await this.bodies.read(req));
    const reported = await this.adaptive.report(name, report);
    switch (reported.kind) {
      case 'unknown':
        throw unknown();
      case 'meaningless': {
        const expected = 'load, or latencyMs or errors if the policy has a goal for it';
        throw new TokenringError('invalid_request', { field: 'load', expected });
      }
      case 'unavailable':
        throw new TokenringError('unavailable', {
          detail: 'the adaptive controller of the policy does not answer; send the next report as usual',
        });
      case 'reported':
        res.json({ name, factor: reported.factor, load: reported.load });
    }
  };
}

function unknown(): TokenringError {
  return new TokenringError('not_found', { detail: 'no adaptive policy has this name' });
}
