# A service as a worker, which answers calls over the channel that whoever started it has made: a line is a message
use strict;
use warnings;
use IO::Handle;
use JSON::PP;

my $fd = delete $ENV{IPCD_CHANNEL_FD};
open my $in, '<&=', $fd or die "channel: $!";
open my $out, '>&', $fd or die "channel: $!";
$out->autoflush(1);

sub send_message { print $out encode_json({ jsonrpc => '2.0', @_ }), "\n" }

my %methods = (
    'GreeterPl.Hello' => sub { "hello, $_[0]{name}" },
);
send_message(id => 1, method => 'Ipcd.Register', params => [{ methods => [keys %methods] }]);

while (my $line = <$in>) {    # to the end of the channel, when a worker has to end
    my $message = decode_json($line);
    next unless $message->{method} && defined $message->{id};    # an answer, or a $/cancelRequest
    my $result = eval { $methods{ $message->{method} }->(@{ $message->{params} // [] }) };
    chomp $@;
    my @outcome = $@ ? (error => { code => -32602, message => $@ }) : (result => $result);
    send_message(id => $message->{id}, @outcome);
}
