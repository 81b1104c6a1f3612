import { TypeCompiler } from '@sinclair/typebox/compiler';
import type { RequestHandler } from 'express';
import type { AdaptiveController } from '../../cluster/policies/adaptive-controller.js';
import type { ActivePolicies } from '../../cluster/policies/active-policies.js';
import { readBody } from '../body.js';
import { LoadReportSchema } from '../../validate/policy-schema.js';
import { TokenringError } from '../../core/error.js';
import { problemOf } from '../../validate/schema-error.js';

const loadReport = TypeCompiler.Compile(LoadReportSchema);

/** `/v1/load/{policy}`: what a protected service reports, and what follows for the limits. */
export function createLoadHandlers({
  adaptive,
  activePolicies,
}: {
  adaptive: Pick<AdaptiveController, 'report' | 'factors'>;
  activePolicies: ActivePolicies;
}): Readonly<Record<'get' | 'put', RequestHandler>> {
  const unknown = (): TokenringError =>
    new TokenringError('not_found', { detail: 'no policy of this name follows a load' });
  return {
    get: (req, res) => {
      const name = req.params['policy'] as string;
      if (activePolicies.set.policies.get(name)?.adaptive === undefined) throw unknown();
      res.json({ name, factor: adaptive.factors().find(([one]) => one === name)?.[1] ?? 1 });
    },
    put: async (req, res) => {
      const name = req.params['policy'] as string;
      const report = await readBody(req);
      if (!loadReport.Check(report)) throw problemOf(loadReport.Errors(report));
      const reported = await adaptive.report(name, report);
      switch (reported.kind) {
        case 'unknown':
          throw unknown();
        case 'meaningless': {
          const expected = 'a load, or a latencyMs or errors that the policy has a goal for';
          throw new TokenringError('invalid_request', { field: 'load', expected });
        }
        case 'unavailable':
          throw new TokenringError('unavailable', {
            detail: 'the node that steers does not answer: the next report will do',
          });
        case 'reported':
          res.json({ name, factor: reported.factor, load: reported.load });
      }
    },
  };
}
