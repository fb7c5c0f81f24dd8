// fetch, as browsers and Node have it: fetch.js PORT PORT-OF-HTTP. Prints one line for each exchange.
const ports = process.argv.slice(2)

async function main () {
  for (const p of ports) {
    const answer = await fetch(`http://127.0.0.1:${p}/rpc`, {
      method: 'POST', headers: { 'Content-Type': 'application/json', Connection: 'close' }, body: '{"jsonrpc":"2.0","id":1,"method":"Ipcd.Ping"}'
    })
    console.log('fetch', answer.status, JSON.stringify(await answer.json()))
    // what a page can do without asking first: a body that is declared to be text
    const simple = await fetch(`http://127.0.0.1:${p}/call/Echo.Say`, { method: 'POST', headers: { Connection: 'close' }, body: '"x"' })
    console.log('fetch', simple.status, (await simple.json()).code)
  }
}
main().catch((err) => { console.log(err.message); process.exitCode = 1 })
