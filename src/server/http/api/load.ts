import { TypeCompiler } from '@sinclair/typebox/compiler';
import type { RequestHandler } from 'express';
import type { AdaptiveController } from '../../../node/policies/adaptive-controller.js';
import type { ActivePolicies } from '../../../policy/active-policies.js';
import type { ReadBody } from '../body.js';
import { LoadReportSchema } from '../../validate/policy-schema.js';
import { TokenringError } from '../../../lib/error.js';
import { problemOf } from '../../validate/schema-error.js';

const loadReport = TypeCompiler.Compile(LoadReportSchema);

/** Handles `/v1/load/{policy}`: the reported load of a protected service, and the factor on its limits. */
export function createLoadHandlers({
  adaptive,
  activePolicies,
  readBody,
}: {
  adaptive: Pick<AdaptiveController, 'report' | 'factors'>;
  activePolicies: ActivePolicies;
  readBody: ReadBody;
}): Readonly<Record<'get' | 'put', RequestHandler>> {
  const unknown = (): TokenringError => new TokenringError('not_found', { detail: 'no adaptive policy has this name' });
  return {
    get: (req, res) => {
      const name = req.params['policy'] as string;
      if (activePolicies.set().policies.get(name)?.adaptive === undefined) throw unknown();
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
    },
  };
}
