# A worker in a shell that answers in parts: it sends the next one when the last has been taken. It offers Count.sh.
say() { printf '%s\n' "{\"jsonrpc\":\"2.0\",$1}" >&3; }

say '"id":1,"method":"Ipcd.Register","params":[{"methods":[{"method":"Count.sh","part":{}}],"extensions":["parts"],"max_calls":1}]'
while IFS= read -r call <&3; do
	case $call in *'"method":"Count.sh"'*) ;; *) continue ;; esac
	id=${call#*'"id":'} count=${call#*'"params":['} token=
	id=${id%%,*} count=${count%%]*}
	case $call in *'"parts":'*) token=${call#*'"parts":'} token=${token%%,*} ;; esac
	n=0
	while [ -n "$token" ] && [ $n -lt "$count" ]; do
		say "\"method\":\"\$/progress\",\"params\":{\"token\":$token,\"value\":\"$(printf '%-100s' "$n ä")\"}"
		n=$((n + 1))
		while IFS= read -r taken <&3; do
			case $taken in
			*"\"parts\":$n}"*) break ;;
			*'$/cancelRequest'*) break 2 ;;
			esac
		done
	done
	say "\"id\":$id,\"result\":$count"
done
