// Whether each of these inputs may spend what it spends, as @bsv/sdk's script interpreter sees it.
// In: [{tx, input, script, satoshis}], hex. Out, in order: "" when valid, else what was wrong.
import { LockingScript, Spend, Transaction } from "@bsv/sdk";
import { text } from "node:stream/consumers";

function verdict({ tx: hex, input, script, satoshis }) {
  const tx = Transaction.fromHex(hex);
  const spent = tx.inputs[input];
  const spend = new Spend({
    sourceTXID: spent.sourceTXID,
    sourceOutputIndex: spent.sourceOutputIndex,
    sourceSatoshis: satoshis,
    lockingScript: LockingScript.fromHex(script),
    transactionVersion: tx.version,
    otherInputs: tx.inputs.filter((_, index) => index !== input),
    outputs: tx.outputs,
    inputIndex: input,
    unlockingScript: spent.unlockingScript,
    inputSequence: spent.sequence,
    lockTime: tx.lockTime,
  });
  try {
    return spend.validate() ? "" : "the script ended with false";
  } catch (error) {
    return error.message || "refused";
  }
}

console.log(JSON.stringify(JSON.parse(await text(process.stdin)).map(verdict)));
